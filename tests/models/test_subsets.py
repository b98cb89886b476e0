"""Which layers train, and how fast."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest

from fastcifar.errors import ConfigError
from fastcifar.models.resnet import build_resnet
from fastcifar.models.subsets import group_of, rate_factors, select, training_only


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_resnet(depth=26, width=4, head="mlp", image_size=(32, 32))


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if layer.weights]


def test_all_and_head(model: keras.Model) -> None:
    everything = select(model, "all")
    assert (everything.trained, everything.frozen) == (tuple(names(model)), ())
    head = select(model, "head")
    assert head.trained[0] == "head_0_bn"
    assert head.trained[-1] == "predictions"
    assert len(head.trained) == 6
    assert head.frozen + head.trained == tuple(names(model))


@pytest.mark.parametrize(
    ("which", "first", "frozen"),
    [
        ("from:conv5_block1", "conv5_block1_1_conv", "conv4_"),
        ("from:conv5", "conv5_block1_1_conv", "conv4_"),
        ("from:conv5_block2_2_conv", "conv5_block2_2_conv", "conv5_block2_1_bn"),
        ("from:conv5_block1_out", "conv5_block2_1_conv", "conv5_block1_3_bn"),
        ("from:conv2_block1", "conv2_block1_1_conv", "conv1_bn"),
        ("from:predictions", "predictions", "head_2_bn"),
    ],
)
def test_from_a_layer_block_or_stage(
    model: keras.Model, which: str, first: str, frozen: str
) -> None:
    subset = select(model, which)
    assert subset.trained[0] == first
    assert subset.trained[-1] == "predictions"
    assert subset.frozen[-1].startswith(frozen)
    assert subset.frozen + subset.trained == tuple(names(model))


def test_all_layers_of_a_block_train_together(model: keras.Model) -> None:
    trained = select(model, "from:conv4_block1").trained
    assert {name for name in names(model) if name.startswith(("conv4", "conv5", "head"))} <= set(
        trained
    )
    assert not any(name.startswith(("conv1", "conv2", "conv3")) for name in trained)


def test_batch_norm_stays_frozen_by_choice(model: keras.Model) -> None:
    subset = select(model, "from:conv5", freeze_batch_norm=True)
    assert "conv5_block1_1_conv" in subset.trained
    assert {name for name in subset.trained if name.endswith("_bn")} == {
        "head_0_bn",
        "head_1_bn",
        "head_2_bn",
    }
    assert sorted(subset.frozen + subset.trained) == sorted(names(model))


def test_the_rest_is_frozen_for_a_while(model: keras.Model) -> None:
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    everything = [v.path for v in model.trainable_variables]
    subset = select(model, "from:conv5")
    before = {v.path: v.numpy() for v in model.variables}
    with training_only(model, subset):
        assert {v.path.split("/")[0] for v in model.trainable_variables} == set(subset.trained)
        model(images, training=True)
    changed = {v.path for v in model.variables if (v.numpy() != before[v.path]).any()}
    assert changed == {
        f"{name}/{statistic}"
        for name in subset.trained
        if name.endswith("_bn")
        for statistic in ("moving_mean", "moving_variance")
    }
    assert [v.path for v in model.trainable_variables] == everything
    with contextlib.suppress(ZeroDivisionError), training_only(model, select(model, "head")):
        assert len(model.trainable_variables) == 12
        raise ZeroDivisionError
    assert [v.path for v in model.trainable_variables] == everything


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("none", "must be all, head or from:LAYER. Received: 'none'"),
        ("from:", "must name a layer, block or stage of resnet26. Received: ''"),
        (
            "from:conv5_blok1",
            "Received: 'conv5_blok1'. Nearest: conv5_block1, conv5_block2, conv4_block1",
        ),
        ("from:conv6_block1", "Nearest: conv5_block1, conv4_block1, conv3_block1"),
        ("from:prediction", "Nearest: predictions"),
        ("from:xyz", "Received: 'xyz'.$"),
        ("from:images", "Received: 'images'"),
    ],
)
def test_refuses(model: keras.Model, which: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select(model, which)


def test_a_network_without_a_head_has_none_to_train() -> None:
    bare = build_resnet(depth=14, width=4, num_classes=None)
    with pytest.raises(ConfigError, match=r"with a head\. Received: resnet14 without"):
        select(bare, "head")
    with pytest.raises(ConfigError, match="must leave something to train"):
        select(bare, "from:conv5_block1_out")


def test_groups() -> None:
    for name, group in (
        ("conv1_bn", "conv1"),
        ("conv3_block12_0_conv", "conv3_block12"),
        ("head_1_dense", "head"),
        ("predictions", "head"),
    ):
        assert group_of(name) == group


def test_rates_fall_from_the_head_to_the_stem(model: keras.Model) -> None:
    factors = rate_factors(model, 0.5)
    assert set(factors) == {v.path for v in model.variables}
    assert factors["predictions/kernel"] == factors["head_0_bn/gamma"] == 1
    assert factors["conv5_block2_3_conv/kernel"] == factors["conv5_block2_1_bn/beta"] == 0.5
    assert factors["conv5_block1_0_conv/kernel"] == 0.25
    assert factors["conv1_conv/kernel"] == 0.5**9
    assert set(rate_factors(model, 1.0).values()) == {1.0}
    for decay in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="rate decay must be above 0 and at most 1"):
            rate_factors(model, decay)
