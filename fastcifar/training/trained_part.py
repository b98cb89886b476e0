"""The part of a run's state that one step trains: all of it, a subset of layers, or the head alone.

Slots and averages exist for the whole network; a part names those of its own variables, in the
order in which Keras hands a network's variables over while the rest of it is frozen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from fastcifar.models.subsets import Subset, rate_factors, training_only
from fastcifar.training.optimizers import decayed
from fastcifar.training.state import TrainState


@dataclass(frozen=True)
class TrainedPart:
    """What a step computes with and what it updates.

    Attributes:
        model: the network, called by `stateless_call` with `trainable` and `others`.
        trainable: variables that receive gradients.
        paths: of each of them, as Keras names it.
        others: the network's other variables: frozen weights and BatchNorm statistics.
        updated: which of `others` the step updates: the statistics of BatchNorms that train.
        slots: for each slot name, one variable per trainable one.
        averages: for each trainable and then each updated variable its moving average; empty where
            none are kept.
        decay: whether weight decay touches each trainable variable.
        rate_factors: of the learning rate, for each trainable variable.
        entered: makes the context in which the network has to be traced.
    """

    model: Any
    trainable: list[tf.Variable]
    paths: list[str]
    others: list[tf.Variable]
    updated: list[int]
    slots: dict[str, list[tf.Variable]]
    averages: list[tf.Variable]
    decay: list[bool]
    rate_factors: list[float]
    entered: Callable[[], contextlib.AbstractContextManager[None]] = field(
        default=contextlib.nullcontext
    )

    @property
    def statistics(self) -> list[tf.Variable]:
        """The updated ones of `others`."""
        return [self.others[i] for i in self.updated]


def whole(state: TrainState) -> TrainedPart:
    """All of a network."""
    return TrainedPart(
        model=state.model,
        trainable=state.trainable,
        paths=state.trainable_paths,
        others=state.statistics,
        updated=list(range(len(state.statistics))),
        slots=state.slots,
        averages=state.averages,
        decay=[decayed(path) for path in state.trainable_paths],
        rate_factors=[1.0] * len(state.trainable),
    )


def of_subset(state: TrainState, subset: Subset, rate_decay: float = 1.0) -> TrainedPart:
    """Some layers of a network, the others frozen.

    Args:
        state: of the whole network.
        subset: which layers train.
        rate_decay: see `fastcifar.models.subsets.rate_factors`.
    """
    factors = rate_factors(state.model, rate_decay)
    with training_only(state.model, subset):
        return _select(state, state.model, factors, lambda: training_only(state.model, subset))


def of_head(state: TrainState, head: keras.Model) -> TrainedPart:
    """The head alone, called with features.

    Args:
        state: of the whole network.
        head: of `fastcifar.models.heads.split_head`.
    """
    return _select(state, head, {v.path: 1.0 for v in head.variables}, contextlib.nullcontext)


def _select(
    state: TrainState, model: keras.Model, factors: dict[str, float], entered: Any
) -> TrainedPart:
    where = {path: i for i, path in enumerate(state.trainable_paths)}
    chosen = [where[v.path] for v in model.trainable_variables]
    others = model.non_trainable_variables
    # Of a frozen layer, the weights and the statistics stay; of one that trains, these are left.
    trained = {v.path.rsplit("/", 1)[0] for v in model.trainable_variables}
    updated = [i for i, v in enumerate(others) if v.path.rsplit("/", 1)[0] in trained]
    statistics = {id(v): i for i, v in enumerate(state.statistics)}
    averages = []
    if state.averages:
        places = [statistics[id(others[i].value)] for i in updated]
        averages = [state.averages[i] for i in chosen]
        averages += [state.averages[len(state.trainable) + i] for i in places]
    return TrainedPart(
        model=model,
        trainable=[state.trainable[i] for i in chosen],
        paths=[state.trainable_paths[i] for i in chosen],
        others=[v.value for v in others],
        updated=updated,
        slots={name: [slots[i] for i in chosen] for name, slots in state.slots.items()},
        averages=averages,
        decay=[decayed(v.path) for v in model.trainable_variables],
        rate_factors=[factors[v.path] for v in model.trainable_variables],
        entered=entered,
    )
