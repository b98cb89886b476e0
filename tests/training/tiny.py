"""Networks, a split and a train step small enough to be compiled in every test."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from fastcifar.data import pipeline, storage
from fastcifar.data.split import Split
from fastcifar.models import resnet
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.training.optimizers import Optimizer
from fastcifar.training.state import TrainState
from fastcifar.training.step import TrainStep, read_metrics

SIZE, CLASSES, EXAMPLES, BATCH, SEED = 8, 3, 48, 8, 4


def tiny_split(examples=EXAMPLES):
    rng = np.random.default_rng(0)
    images = storage.empty_images((examples, SIZE, SIZE, 3))
    images[:] = rng.integers(0, 256, images.shape)
    return Split(images, np.arange(examples) % CLASSES, tuple("abc"))


def tiny_model(dtype="float32", batch_norm=True, sync_batch_norm=False):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, dtype=dtype, name="conv")(x)
    if batch_norm:
        norm = BatchNormalization(
            momentum=0.9, synchronized=sync_batch_norm, dtype=dtype, name="bn"
        )
        x = norm(x)
    x = keras.layers.Activation("relu", dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    head = "float64" if dtype == "float64" else "float32"
    x = keras.layers.Dense(CLASSES, dtype=head, name="predictions")(x)
    return keras.Model(inputs, x)


def tiny_resnet(dtype="float32", sync_batch_norm=False, stages=2, **head):
    """The real network with the first of its four stages, to be compiled in seconds."""
    with mock.patch.dict(resnet.BLOCKS, {8: (1,) * stages}):
        return resnet.build_resnet(
            depth=8,
            width=8,
            stem="cifar",
            num_classes=CLASSES,
            dtype=dtype,
            sync_batch_norm=sync_batch_norm,
            **head,
        )


def mirrored(replicas=2):
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


class Run:
    """A tiny training: `run(k, k, …)` runs calls of k steps and returns their metrics."""

    def __init__(
        self,
        *,
        strategy=None,
        dtype="float32",
        xla=False,
        optimizer=None,
        cache="memory",
        batch_norm=True,
        rate=0.1,
        steps=12,
        transform=None,
        build=None,
        split=None,
        global_batch_size=BATCH,
        hosted=None,
        part=None,
        **arguments,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        config = optimizer or OptimizerConfig()
        compute = dtype.removeprefix("mixed_")
        split = split or tiny_split()
        with self.strategy.scope():
            self.model = build(dtype) if build else tiny_model(dtype, batch_norm)
            chosen = Optimizer(config)
            self.state = TrainState(
                self.model,
                chosen,
                scale_loss=compute == "float16",
                average=config.ema is not None,
            )

        def scale(images, labels, seed, positions, indices):
            return tf.cast(images, compute) / 255, labels

        resident = None
        if cache == "device":
            resident = pipeline.resident_images(split, self.strategy)
        self.step = TrainStep(
            state=self.state,
            optimizer=chosen,
            transform=transform or scale,
            learning_rates=np.broadcast_to(np.float32(rate), steps),
            first_step=0,
            strategy=self.strategy,
            xla=xla,
            global_batch_size=global_batch_size,
            seed=SEED,
            label_smoothing=config.label_smoothing,
            clip_norm=config.clip_norm,
            accumulate=config.accumulate,
            ema=config.ema,
            scale_loss=compute == "float16",
            resident=resident,
            part=part(self.state) if part else None,
            **arguments,
        )
        dataset = pipeline.train_batches(
            split,
            global_batch_size=global_batch_size,
            replicas=self.strategy.num_replicas_in_sync,
            hosted=hosted,
            seed=SEED,
            first_step=0,
            last_step=steps,
            cache=cache,
        )
        self.iterator = iter(pipeline.to_devices(dataset, self.strategy))
        self.done = 0

    def run(self, *calls):
        found = []
        for k in calls:
            found.append(read_metrics(self.step(self.iterator, self.done, k)))
            self.done += k
        return found

    def arrays(self):
        return self.state.arrays()
