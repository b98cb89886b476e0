"""`keras.Model.fit` as a contender: the same network and batches, in Keras' own loop.

It is given what its user could give it at best. Its batches come from this project's pipeline, as
uint8; they are cast and normalised inside the model, by the function that the step uses; XLA,
precision and the steps per call are the step's.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import keras
import tensorflow as tf

from fastcifar.augment.preprocess import preprocess
from fastcifar.bench.subject import Subject
from fastcifar.config import OptimizerConfig
from fastcifar.training.assembly import build_model
from fastcifar.training.phase import host_batches
from fastcifar.training.transforms import choose_normalisation


def build(subject: Subject, precision: str) -> keras.Model:
    """Build the network with the preprocessing in front: uint8 [B, H, W, 3] -> logits [B, C]."""
    config, split = subject.config, subject.prepared.splits.train
    size = subject.phase.config.image_size
    backbone = build_model(
        config.model,
        num_classes=len(split.class_names),
        seed=config.seed,
        dtype=precision,
        image_size=size,
    )

    def prepare(images: tf.Tensor) -> tf.Tensor:
        return preprocess(
            images,
            image_size=(size, size),
            scheme=choose_normalisation(config.model.normalise),
            method=config.model.resize_method,
            dtype=precision.removeprefix("mixed_"),
        )

    inputs = keras.Input(split.image_shape, dtype="uint8")
    images = keras.layers.Lambda(prepare, dtype=precision, autocast=False)(inputs)
    return keras.Model(inputs, backbone(images))


def compile_model(subject: Subject, model: keras.Model, steps_per_call: int) -> None:
    """Compile for `fit`, with the optimizer and the loss of the configuration."""
    config = subject.config.optimizer
    smoothing = config.label_smoothing
    model.compile(
        optimizer=_optimizer(config, float(subject.phase.rates[0])),
        loss=(
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
            if smoothing
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ),
        metrics=["accuracy"],
        steps_per_execution=steps_per_call,
        jit_compile=subject.prepared.runtime.xla,
    )


def _optimizer(config: OptimizerConfig, learning_rate: float) -> keras.optimizers.Optimizer:
    """Keras' optimizer of that name; its weight decay is decoupled, at the same cost."""
    shared = {"learning_rate": learning_rate, "global_clipnorm": config.clip_norm}
    if config.weight_decay or config.optimizer == "adamw":  # AdamW takes 0 but not None
        shared["weight_decay"] = config.weight_decay
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=config.momentum, nesterov=True, **shared)
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
    }
    return kinds[config.optimizer](**shared)


def batches(subject: Subject) -> tf.data.Dataset:
    """This project's pipeline as `fit` takes it: (images, labels) for as long as it is asked."""
    config, data = subject.config, subject.config.data
    # Images, not indices of images that the step would find on the device.
    cache = "memory" if data.cache == "device" else data.cache
    shipping = dataclasses.replace(config, data=dataclasses.replace(data, cache=cache))
    dataset = host_batches(shipping, subject.prepared, subject.phase, 0)
    classes = len(subject.prepared.splits.class_names)
    if config.optimizer.label_smoothing:
        dataset = dataset.map(lambda b: (b.images, tf.one_hot(b.labels, classes)))
    else:
        dataset = dataset.map(lambda b: (b.images, b.labels))
    return dataset.prefetch(max(1, data.prefetch))


class RunningFit:
    """A call of `fit` in a thread of its own, that runs one execution whenever it is asked to.

    So one long `fit` can take turns with others, without the cost of starting it each time. Only
    one thread computes at any time.

    Args:
        model: compiled.
        dataset: without end.

    Attributes:
        loss: of the last execution; the mean over the steps since `fit` was started.
    """

    def __init__(self, model: keras.Model, dataset: tf.data.Dataset):
        self._model = model
        self._dataset = dataset
        self._go = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._stopping = False
        self._error: BaseException | None = None
        self.loss = float("nan")
        # A daemon, so that an interrupted benchmark does not wait for it.
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Let `fit` run one execution, and wait until it is done.

        Raises:
            Exception: whatever `fit` raised.
        """
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End `fit`."""
        self._stopping = True
        self._go.release()
        self._thread.join()

    def _fit(self) -> None:
        callback = keras.callbacks.LambdaCallback(
            on_train_batch_begin=self._wait, on_train_batch_end=self._finish
        )
        try:
            self._model.fit(self._dataset, epochs=1, shuffle=False, verbose=0, callbacks=[callback])
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
        self._done.release()

    def _wait(self, batch: int, logs: dict[str, Any] | None) -> None:
        self._go.acquire()
        if self._stopping:
            raise _Stopped

    def _finish(self, batch: int, logs: dict[str, Any] | None) -> None:
        self.loss = float((logs or {})["loss"])  # waits for the device
        self._done.release()


class _Stopped(Exception):
    """Leaves `fit` between two executions."""


def first_loss(subject: Subject, model: keras.Model) -> float:
    """Fit the first batch alone, one step, and return its loss.

    Several steps per execution end early where the data does, so this is the program that is
    measured later.
    """
    history = model.fit(batches(subject).take(1), epochs=1, shuffle=False, verbose=0)
    return history.history["loss"][0]
