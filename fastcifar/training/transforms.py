"""Puts augmentation, resizing and normalisation where the configuration wants them.

By default all of it runs on the device, inside the compiled program; the host's share exists so
that the ladder benchmark can show what it costs there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from fastcifar.augment import policies
from fastcifar.augment.build import Chain, build
from fastcifar.augment.preprocess import normalise, preprocess
from fastcifar.config import DataConfig, ModelConfig, PhaseConfig
from fastcifar.data.pipeline import Batch, HostTransform
from fastcifar.errors import ConfigError
from fastcifar.training.step import Transform


@dataclass(frozen=True)
class Transforms:
    """What happens to an image between storage and network.

    Attributes:
        on_host: for the input pipeline, or None.
        before_program: for the device, in a graph before the compiled program, or None: policies
            that XLA cannot compile.
        on_device: for the compiled program.
        for_evaluation: uint8 [B, H, W, 3] -> images ready for the network.
    """

    on_host: HostTransform | None
    before_program: Transform | None
    on_device: Transform
    for_evaluation: Callable[[tf.Tensor], tf.Tensor]


def choose_normalisation(asked: str) -> str:
    """Return the scheme: `auto` follows the weights; without any, CIFAR-10's statistics."""
    return "cifar" if asked == "auto" else asked


def check_policies(phases: tuple[PhaseConfig, ...], per_replica_batch_size: int) -> None:
    """Refuse an unknown policy, or one whose groups do not fit the batch, before anything is built.

    Raises:
        ConfigError: naming the policy and the rule.
    """
    for phase in phases:
        policy = policies.get(phase.augment)
        if per_replica_batch_size % policy.group_size:
            raise ConfigError(
                f"the batch of one replica must be a multiple of {policy.group_size} for augment "
                f"{phase.augment}, which works on groups. Received: {per_replica_batch_size}"
            )


def make(
    data: DataConfig,
    model: ModelConfig,
    phase: PhaseConfig,
    *,
    train_size: int,
    stored_size: tuple[int, int],
    num_classes: int,
    seed: int,
    dtype: str,
) -> Transforms:
    """Build the transforms of one phase.

    Args:
        data, model, phase: where and how; evaluation is at the phase's image size.
        train_size: side in pixels of training images.
        stored_size: (height, width) of training images as they are stored.
        num_classes: width of mixed labels.
        seed: of the run; the host's share of the randomness is keyed by it as the device's is.
        dtype: of images for the network.
    """
    scheme = choose_normalisation(model.normalise)
    method = model.resize_method
    policy = policies.get(phase.augment)

    def augment_to(dtype: str) -> Chain:
        return build(
            policy,
            image_size=(train_size, train_size),
            num_classes=num_classes,
            resize_method=method,
            dtype=dtype,
            form=data.augment_form,
        )

    def evaluation(images: tf.Tensor) -> tf.Tensor:
        size = (phase.image_size, phase.image_size)
        return preprocess(images, image_size=size, scheme=scheme, method=method, dtype=dtype)

    def normalise_only(images, labels, seed, positions, indices):
        return tf.cast(normalise(images, scheme), dtype), labels

    if data.augment_on == "host":
        # float32: the host has no fast bfloat16, and this is the textbook's way.
        augment_on_host = augment_to("float32")

        def on_host(batch: Batch) -> Batch:
            key = tf.stack([tf.constant(seed, tf.int64), batch.epoch])
            images, labels = augment_on_host(
                batch.images, batch.labels, key, batch.positions, batch.indices
            )
            return batch._replace(images=images, labels=labels)

        return Transforms(on_host, None, normalise_only, evaluation)

    augment = augment_to(dtype)

    if data.resize_on == "host" and stored_size != (train_size, train_size):
        # Geometry and resize are one resampling, in stored pixels, and what comes before it goes
        # with it: an image that has been resized is no place for a crop by 4 stored pixels.
        chain_on_host = augment_to("float32")

        def to_size(batch: Batch) -> Batch:
            key = tf.stack([tf.constant(seed, tf.int64), batch.epoch])
            images = chain_on_host.to_size(batch.images, key, batch.positions, batch.indices)
            return batch._replace(images=images)

        def the_rest(images, labels, seed, positions, indices):
            images, labels = augment.mix(images, labels, seed, positions)
            return normalise(images, scheme), labels

        return Transforms(to_size, None, the_rest, evaluation)

    def on_device(images, labels, seed, positions, indices):
        images, labels = augment(images, labels, seed, positions, indices)
        return normalise(images, scheme), labels

    def as_resized(batch: Batch) -> Batch:
        return batch._replace(images=tf.cast(batch.images, tf.float32))

    return Transforms(
        on_host=as_resized if data.resize_on == "host" else None,
        before_program=None if policy.compiled else augment,
        on_device=on_device if policy.compiled else normalise_only,
        for_evaluation=evaluation,
    )
