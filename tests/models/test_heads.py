"""Heads: their layers, what they compute, and the cut between them and the backbone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fastcifar.errors import ConfigError
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.models.dropout import Dropout
from fastcifar.models.heads import classify, is_head, split_head
from fastcifar.models.resnet import build_resnet


def small(**arguments) -> keras.Model:
    return build_resnet(**{"depth": 14, "width": 4, "image_size": (64, 64), **arguments})


def head_layers(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if is_head(layer.name)]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["avg_pool", "predictions"]),
        ({"dropout": 0.5}, ["avg_pool", "head_0_dropout", "predictions"]),
        ({"pooling": "flatten"}, ["flatten", "predictions"]),
        (
            {"head": "mlp", "dropout": 0.5},
            [
                "avg_pool",
                "head_0_bn",
                "head_1_dense",
                "head_1_dropout",
                "head_1_bn",
                "head_2_dense",
                "head_2_dropout",
                "head_2_bn",
                "predictions",
            ],
        ),
    ],
)
def test_layers_of_each_head(arguments: dict, names: list[str]) -> None:
    model = small(**arguments)
    assert head_layers(model) == names
    # Nothing but BatchNorm has a state: the train step takes what does not train for statistics.
    assert {v.path.rsplit("/", 1)[-1] for v in model.non_trainable_variables} == {
        "moving_mean",
        "moving_variance",
    }


def test_the_mlp_is_that_of_the_reference() -> None:
    model = small(head="mlp", pooling="flatten", dropout=0.25, num_classes=7)
    assert model.get_layer("head_0_bn").output.shape == (None, 2 * 2 * 128)
    widths = [model.get_layer(name).units for name in ("head_1_dense", "head_2_dense")]
    assert widths == [128, 64]
    assert model.get_layer("head_1_dense").activation is keras.activations.relu
    assert model.get_layer("predictions").activation is keras.activations.linear
    drops = [layer for layer in model.layers if isinstance(layer, Dropout)]
    assert [(layer.rate, layer.stream) for layer in drops] == [(0.25, 1), (0.25, 2)]
    images = np.random.default_rng(0).normal(size=(3, 64, 64, 3)).astype(np.float32)
    x = keras.Model(model.input, model.get_layer("conv5_block1_out").output)(images)
    x = x.numpy().reshape(3, -1)
    for name in ("head_0_bn", "head_1_dense", "head_1_bn", "head_2_dense", "head_2_bn"):
        values = [value.numpy() for value in model.get_layer(name).weights]
        if name.endswith("bn"):
            gamma, beta, mean, variance = values
            x = (x - mean) / np.sqrt(variance + 1.001e-5) * gamma + beta
        else:
            x = np.maximum(x @ values[0] + values[1], 0)
    kernel, bias = (value.numpy() for value in model.get_layer("predictions").weights)
    np.testing.assert_allclose(model(images), x @ kernel + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float64"])
def test_logits_are_never_rounded(head: str, dtype: str) -> None:
    model = small(head=head, dropout=0.5, dtype=dtype)
    logits = "float64" if dtype == "float64" else "float32"
    assert model.output.dtype == logits
    assert {variable.dtype for variable in model.variables} == {logits}


def test_norms_of_the_head_are_those_of_the_network() -> None:
    model = small(
        head="mlp", sync_batch_norm=True, batch_norm_momentum=0.7, batch_norm_epsilon=1e-3
    )
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert [layer.name for layer in norms][-3:] == ["head_0_bn", "head_1_bn", "head_2_bn"]
    for layer in norms:
        assert (layer.synchronized, layer.momentum, layer.epsilon) == (True, 0.7, 1e-3)


def test_weights_follow_from_the_seed_and_the_name_alone() -> None:
    kernels = [
        small(**arguments).get_layer("head_2_dense").kernel.numpy()
        for arguments in (
            {"head": "mlp", "seed": 1},
            {"head": "mlp", "seed": 1, "dropout": 0.5, "num_classes": 3},
            {"head": "mlp", "seed": 2},
        )
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0


@pytest.mark.parametrize("arguments", [{}, {"head": "mlp", "dropout": 0.5}])
@pytest.mark.parametrize("image_size", [(64, 64), None])
def test_a_network_cut_at_its_head_computes_the_same(arguments: dict, image_size) -> None:
    model = small(image_size=image_size, **arguments)
    backbone, head = split_head(model)
    images = np.random.default_rng(0).normal(size=(3, 64, 64, 3)).astype(np.float32)
    features = backbone(images, training=False)
    assert features.shape == (3, 128)
    np.testing.assert_array_equal(head(features, training=False), model(images, training=False))
    paths = [v.path for part in (backbone, head) for v in part.variables]
    assert sorted(paths) == sorted(v.path for v in model.variables)
    for own in (*backbone.layers, *head.layers):
        if own.weights:
            assert model.get_layer(own.name) is own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "big"}, "head must be linear or mlp. Received: big"),
        ({"pooling": "max"}, "pooling must be average or flatten. Received: max"),
        ({"dropout": 1.0}, "dropout must be 0 or more and below 1. Received: 1.0"),
        ({"dropout": float("nan")}, "dropout must be 0 or more and below 1. Received: nan"),
        ({"pooling": "flatten"}, "flatten needs one image size"),
    ],
)
def test_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classify(keras.Input((None, None, 8)), num_classes=2, **arguments)
