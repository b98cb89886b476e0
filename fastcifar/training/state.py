"""All state of a training run, in one place: what a checkpoint must hold for an exact resume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastcifar.errors import RunDirError
from fastcifar.training.optimizers import Optimizer

INITIAL_LOSS_SCALE = 2.0**15
# What the names of the model's variables and of their averages start with.
WEIGHTS, AVERAGES = "model/", "average/"


class TrainState:
    """The model's variables, the optimizer's slots, and the counters of loss scaling.

    Made under the strategy's scope, so that every replica has its own copy of each variable; the
    copies are equal between steps.

    Attributes:
        model: the network; its variables are the weights (float32 under the mixed policies).
        trainable: the variables that receive gradients, as Keras orders them.
        statistics: the BatchNorm moving statistics.
        slots: for each slot name, one variable per trainable variable.
        averages: moving averages of the trainable variables and then of the statistics over the
            updates of the phase; empty where none are kept.
        loss_scale: float32 scalar, 1 unless float16 is scaled.
        good_steps: int64 scalar, steps since the scale last changed.
        updates: int64 scalar, updates applied in the phase (skipped steps excluded): what Adam's
            bias correction and the warm-up of the averages count.
    """

    def __init__(
        self, model: keras.Model, optimizer: Optimizer, *, scale_loss: bool, average: bool = False
    ):
        self.model = model
        self.trainable = [v.value for v in model.trainable_variables]
        self.trainable_paths = [v.path for v in model.trainable_variables]
        self.statistics = [v.value for v in model.non_trainable_variables]
        self._averaged_paths = [
            v.path for v in (*model.trainable_variables, *model.non_trainable_variables)
        ]

        def zeros(like: tf.Variable, name: str) -> tf.Variable:
            return tf.Variable(tf.zeros(like.shape, like.dtype), trainable=False, name=name)

        def copy(of: tf.Variable) -> tf.Variable:
            return tf.Variable(of.read_value(), trainable=False, name="average")

        averaged = (*self.trainable, *self.statistics) if average else ()
        self.averages = [copy(variable) for variable in averaged]
        self.slots = {name: [zeros(v, name) for v in self.trainable] for name in optimizer.slots}
        scale = INITIAL_LOSS_SCALE if scale_loss else 1.0
        self.loss_scale = tf.Variable(scale, trainable=False, dtype=tf.float32, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")
        self.updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="updates")

    def variables(self) -> Iterator[tuple[str, tf.Variable]]:
        """Every variable of the state with a name of its own, in a fixed order."""
        for variable in self.model.variables:
            yield f"{WEIGHTS}{variable.path}", variable.value
        for slot, variables in self.slots.items():
            for path, variable in zip(self.trainable_paths, variables, strict=True):
                yield f"slots/{slot}/{path}", variable
        for path, average in zip(self._averaged_paths, self.averages, strict=bool(self.averages)):
            yield f"{AVERAGES}{path}", average
        yield "loss_scale", self.loss_scale
        yield "good_steps", self.good_steps
        yield "updates", self.updates

    def forget_updates(self) -> None:
        """Start again from the weights: empty slots, no updates so far, averages equal to them.

        A phase may freeze layers whose averages lag behind their weights, and they would do so for
        ever, while the rest is fitted to the weights. What is evaluated is therefore the average
        over the updates of one phase, and equal to the weights where nothing trains.
        """
        for variables in self.slots.values():
            for variable in variables:
                variable.assign(tf.zeros(variable.shape, variable.dtype))
        for variable, average in zip(
            (*self.trainable, *self.statistics), self.averages, strict=bool(self.averages)
        ):
            average.assign(variable.numpy())
        self.updates.assign(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the whole state."""
        return {name: variable.numpy() for name, variable in self.variables()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Write the whole state.

        Raises:
            RunDirError: if a name or a shape does not fit, naming the first that does not.
        """
        check_names({name: tuple(v.shape) for name, v in self.variables()}, arrays)
        for name, variable in self.variables():
            variable.assign(arrays[name])


def check_names(expected: dict[str, tuple[int, ...]], arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays whose names or shapes differ from `expected`."""
    for name, shape in expected.items():
        received = tuple(arrays[name].shape) if name in arrays else "nothing"
        if received != shape:
            raise RunDirError(
                f"the checkpoint does not fit this configuration: {name} must have shape {shape}. "
                f"Received: {received}"
            )
    extra = sorted(set(arrays) - set(expected))
    if extra:
        raise RunDirError(
            "the checkpoint does not fit this configuration: it holds "
            f"{extra[0]}, which this model does not have"
        )


def weights_sha256(model: keras.Model) -> str:
    """Hash the float32 little-endian bytes of all model variables, sorted by path."""
    digest = hashlib.sha256()
    for variable in sorted(model.variables, key=lambda v: v.path):
        digest.update(np.asarray(variable.value.numpy(), "<f4").tobytes())
    return digest.hexdigest()


Local = Callable[[Any], Any]


def local_copy(strategy: Any, replica: int) -> Local:
    """Return variable -> this replica's own copy of it, a plain variable on its device."""
    return lambda variable: strategy.experimental_local_results(variable)[replica]
