"""Named configurations: complete ones, of which the command line overrides parts."""

from __future__ import annotations

import dataclasses

from fastcifar.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    RunConfig,
)
from fastcifar.errors import ConfigError, nearest

_RECIPES: dict[str, tuple[str, RunConfig]] = {
    "quickstart": (
        "a small ResNet on drawn shapes: the whole path in minutes on two CPU cores, no download",
        RunConfig(
            recipe="quickstart",
            global_batch_size=128,
            data=DataConfig(source="synthetic"),
            model=ModelConfig(depth=14, width=32),
            optimizer=OptimizerConfig(optimizer="adamw", weight_decay=0.05),
            phases=(
                PhaseConfig(
                    epochs=8, learning_rate=0.003, schedule="one_cycle", augment="flip-crop"
                ),
            ),
        ),
    ),
    "cifar10-scratch": (
        "ResNet50 with the CIFAR stem from scratch: the most accurate at 32 px, wants a GPU",
        RunConfig(
            recipe="cifar10-scratch",
            global_batch_size=512,
            model=ModelConfig(stem="cifar"),
            # Set beforehand, by what fast trainings of CIFAR-10 publish, and not tuned here: batch,
            # rate, decay, label smoothing, averaged weights (there 0.99 in five steps) and cutout
            # of 8 pixels as in D. Page, "How to Train Your ResNet" (2018-19); flips that alternate
            # as in K. Jordan, "94% on CIFAR-10 in 3.29 Seconds" (2024). Both average what they say
            # of a test image and of its mirror image.
            optimizer=OptimizerConfig(label_smoothing=0.2, ema=0.998),
            test_time_augmentation="flip",
            phases=(
                PhaseConfig(
                    epochs=30,
                    learning_rate=0.4,
                    schedule="one_cycle",
                    augment="alternating-flip-crop+cutout",
                ),
            ),
        ),
    ),
    "cifar10-32px": (
        "ResNet50 as published (ImageNet stem) at 32 px from scratch: affordable on a CPU",
        RunConfig(
            recipe="cifar10-32px",
            global_batch_size=128,
            model=ModelConfig(stem="imagenet"),
            # In this few steps AdamW is far ahead of SGD, whose high rate is unstable at first:
            # the last stage's BatchNorm sees a single pixel of each image.
            optimizer=OptimizerConfig(optimizer="adamw", weight_decay=0.02),
            phases=(
                PhaseConfig(epochs=5, learning_rate=0.001, warmup_epochs=1.0, augment="flip-crop"),
            ),
        ),
    ),
    "cifar10-finetune": (
        "ImageNet ResNet50 fine-tuned at 128 to 224 px: the most accurate, wants a GPU",
        RunConfig(
            recipe="cifar10-finetune",
            global_batch_size=128,
            model=ModelConfig(weights="imagenet"),
            optimizer=OptimizerConfig(label_smoothing=0.1, weight_decay=1e-4, ema=0.999),
            phases=(
                # First the head, on features computed once: a random one would send its noise
                # through the whole network.
                PhaseConfig(
                    epochs=2,
                    learning_rate=0.1,
                    augment="none",
                    image_size=224,
                    trainable="head",
                    name="head",
                ),
                PhaseConfig(
                    epochs=12,
                    learning_rate=0.02,
                    warmup_epochs=1.0,
                    augment="standard",
                    image_size=224,
                    start_image_size=128,
                    name="all",
                ),
            ),
            data=DataConfig(feature_cache="memory"),
        ),
    ),
    "upsample-rmsprop": (
        "a reference: ImageNet ResNet50 at 256 px (nearest neighbour), [0, 1], dense head, RMSprop",
        RunConfig(
            recipe="upsample-rmsprop",
            global_batch_size=32,
            model=ModelConfig(
                weights="imagenet",
                normalise="unit",
                resize_method="nearest",
                head="mlp",
                pooling="flatten",
                dropout=0.5,
            ),
            optimizer=OptimizerConfig(optimizer="rmsprop", weight_decay=0.0),
            phases=(
                PhaseConfig(
                    epochs=10,
                    learning_rate=2e-5,
                    schedule="constant",
                    augment="none",
                    image_size=256,
                ),
            ),
        ),
    ),
    "freeze-then-finetune": (
        "a reference: frozen ImageNet ResNet50 at 32 px, [0, 1], dense head, Adam; then all of it",
        RunConfig(
            recipe="freeze-then-finetune",
            global_batch_size=64,
            data=DataConfig(source="keras"),
            model=ModelConfig(weights="imagenet", normalise="unit", head="mlp", dropout=0.5),
            optimizer=OptimizerConfig(optimizer="adam", weight_decay=0.0),
            phases=(
                PhaseConfig(
                    epochs=10,
                    learning_rate=1e-3,
                    schedule="constant",
                    augment="flip-rotate-zoom",
                    trainable="head",
                    name="head",
                ),
                PhaseConfig(
                    epochs=10,
                    learning_rate=1e-5,
                    schedule="constant",
                    augment="flip-rotate-zoom",
                    name="all",
                ),
            ),
        ),
    ),
    "frozen-backbone": (
        "a reference: ImageNet ResNet50 at 224 px with its lower layers frozen, one dense layer",
        RunConfig(
            recipe="frozen-backbone",
            global_batch_size=64,
            model=ModelConfig(weights="imagenet"),
            optimizer=OptimizerConfig(optimizer="adam", weight_decay=0.0),
            phases=(
                PhaseConfig(
                    epochs=10,
                    learning_rate=1e-4,
                    schedule="constant",
                    augment="flip",
                    image_size=224,
                    trainable="from:conv5",
                ),
            ),
        ),
    ),
}


def names() -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(_RECIPES)


def describe(name: str) -> str:
    """One line on what the recipe is for.

    Raises:
        ConfigError: if there is none of that name.
    """
    get(name)
    return _RECIPES[name][0]


def get(name: str) -> RunConfig:
    """Return the recipe `name`.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in _RECIPES:
        raise ConfigError(
            f"recipe must be one of {', '.join(_RECIPES)}. "
            f"Received: {name!r}.{nearest(name, _RECIPES)}"
        )
    return _RECIPES[name][1]


# Epochs over which a scaled-up rate rises, at most, and as a share of a phase's epochs.
_WARMUP_EPOCHS, _WARMUP_SHARE = 5.0, 0.2


def scale_learning_rate(config: RunConfig, reference_batch_size: int) -> RunConfig:
    """Scale the learning rates of all phases linearly with the global batch size.

    A rate that grows is warmed up over five epochs, or over a fifth of its phase if that is less
    (Goyal et al., "Accurate, Large Minibatch SGD", 2017, for SGD).

    Args:
        config: with the rates that suit `reference_batch_size`.
        reference_batch_size: the global batch that they are meant for.
    """
    factor = config.global_batch_size / reference_batch_size

    def scaled(phase: PhaseConfig) -> PhaseConfig:
        warmup = phase.warmup_epochs
        # A one-cycle schedule rises by itself.
        if factor > 1 and phase.schedule != "one_cycle":
            warmup = max(warmup, min(_WARMUP_EPOCHS, _WARMUP_SHARE * phase.epochs))
        return dataclasses.replace(
            phase, learning_rate=phase.learning_rate * factor, warmup_epochs=warmup
        )

    return dataclasses.replace(config, phases=tuple(scaled(phase) for phase in config.phases))
