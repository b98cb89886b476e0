"""What arrays and a Keras configuration tell about their network."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import keras
import numpy as np
import pytest

from fastcifar.models.architecture import depth_of, meaning_of, stem_of
from fastcifar.models.meaning import KERAS_APPLICATIONS, Meaning
from fastcifar.models.weight_files import Layers, WeightFile


def blocks(*counts: int) -> Layers:
    return {
        f"conv{stage}_block{block}_1_conv": {}
        for stage, count in enumerate(counts, start=2)
        for block in range(1, count + 1)
    }


def test_depth_follows_from_the_blocks() -> None:
    assert depth_of(blocks(3, 4, 6, 3)) == 50
    assert depth_of(blocks(3, 4, 23, 3)) == 101
    assert depth_of(blocks(3, 4, 5, 3)) is None
    assert depth_of({}) is None


def test_stem_follows_from_the_first_convolution() -> None:
    for shape, stem in (((7, 7, 3, 64), "imagenet"), ((3, 3, 3, 8), "cifar"), ((3, 64), None)):
        assert stem_of({"conv1_conv": {"kernel": np.zeros(shape)}}) == stem
    assert stem_of({}) is None


def config_of(*layers: keras.layers.Layer) -> dict[str, Any]:
    model = keras.Sequential([keras.Input((64, 64, 3)), *layers])
    # As a file has it: JSON knows no tuples.
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def conv(name: str, size: int, stride: int, padding: str = "valid") -> keras.layers.Layer:
    return keras.layers.Conv2D(2, size, strides=stride, padding=padding, name=name)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([conv("conv1_conv", 7, 2, "same")], Meaning("imagenet", None, "same")),
        ([conv("conv1_conv", 3, 1, "same")], Meaning("cifar", None, "symmetric")),
        (
            [conv("conv1_conv", 7, 2), conv("conv3_block1_2_conv", 3, 2, "same")],
            Meaning("imagenet", "v1.5", "same"),
        ),
        (
            [conv("conv1_conv", 7, 2), conv("conv3_block1_1_conv", 1, 2, "same")],
            Meaning("imagenet", "v1", "symmetric"),
        ),
        (
            [
                conv("conv1_conv", 7, 2),
                keras.layers.BatchNormalization(name="conv1_bn", epsilon=1e-5),
                keras.layers.BatchNormalization(name="head_bn", epsilon=1e-2),
            ],
            Meaning("imagenet", None, "symmetric", 1e-5),
        ),
        ([keras.layers.Flatten()], Meaning()),
    ],
)
def test_a_configuration_tells_strides_padding_and_epsilon(
    layers: list[keras.layers.Layer], expected: Meaning
) -> None:
    assert meaning_of(WeightFile({}, config_of(*layers))) == expected


def test_a_bias_is_the_mark_of_keras_applications() -> None:
    layers = {"conv1_conv": {"kernel": np.zeros((7, 7, 3, 64)), "bias": np.zeros(64)}}
    assert meaning_of(WeightFile(layers)) == dataclasses.replace(KERAS_APPLICATIONS, normalise=None)
    other = {"conv1_conv": {"kernel": np.zeros((3, 3, 3, 64)), "bias": np.zeros(64)}}
    assert meaning_of(WeightFile(other)) == Meaning("cifar")
    stated = config_of(conv("conv1_conv", 7, 2), conv("conv3_block1_2_conv", 3, 2))
    meaning = meaning_of(WeightFile(layers, stated))
    assert meaning == Meaning("imagenet", "v1.5", "symmetric", 1.001e-5, None)


@pytest.mark.parametrize(
    "odd",
    [
        {"class_name": "Conv2D", "config": {"name": "conv1_conv", "kernel_size": "7"}},
        {"class_name": "Conv2D", "config": {"name": "conv1_conv", "kernel_size": []}},
        {"class_name": "Conv2D", "config": {"name": 3}},
        {"class_name": "Conv2D", "config": None},
        {"class_name": "Bn", "config": {"name": "conv1_bn", "epsilon": "small"}},
    ],
)
def test_an_odd_configuration_tells_nothing(odd: dict[str, Any]) -> None:
    assert meaning_of(WeightFile({}, {"layers": [odd]})).stem is None
