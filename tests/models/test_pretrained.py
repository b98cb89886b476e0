"""Pretrained weights: from every kind of file into the network, with the outputs they had."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.preprocess import normalise
from fastcifar.errors import ConfigError
from fastcifar.models import imagenet, pretrained
from fastcifar.models.meaning import KERAS_APPLICATIONS, Meaning, settle
from fastcifar.models.resnet import build_resnet
from fastcifar.models.weight_files import WeightsError
from tests.models.keras_applications import random_resnet50, write_h5

SIZE = 64
# What layers tell of a network of Keras Applications; the pixels it knows they do not.
KERAS_NETWORK = dataclasses.replace(KERAS_APPLICATIONS, normalise=None)
RUN = Meaning("imagenet", "v1", "symmetric", 1e-3, "unit")


class Published(NamedTuple):
    path: Path
    model: keras.Model
    images: np.ndarray
    features: np.ndarray


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A file in the format of Keras Applications, and what its network makes of two images."""
    model = random_resnet50()
    images = np.random.default_rng(1).normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("weights") / imagenet_name(50)
    return Published(write_h5(path, model), model, images, model(images, training=False).numpy())


def imagenet_name(depth: int) -> str:
    return f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def small(**arguments) -> keras.Model:
    return build_resnet(**{"depth": 14, "width": 8, "num_classes": 3, **arguments})


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(0.1, 0.5, variable.shape))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in model.variables}


def run_weights(model: keras.Model, **arguments) -> pretrained.Pretrained:
    arrays = {f"model/{path}": value for path, value in values(model).items()}
    arrays["slots/momentum/conv1_conv/kernel"] = np.zeros(1)
    return pretrained.from_arrays(arrays, **{"origin": "runs/a", "meaning": RUN, **arguments})


def refused(model: keras.Model, weights: pretrained.Pretrained, match: str) -> None:
    before = values(model)
    with pytest.raises(WeightsError, match=match) as error:
        pretrained.load_into(model, weights)
    assert "\n" not in str(error.value)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_the_file_is_in_keras_own_format(published: Published) -> None:
    again = keras.applications.ResNet50(include_top=False, weights=str(published.path))
    for mine, theirs in zip(published.model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_outputs_equal_those_of_keras_applications(published: Published) -> None:
    weights = pretrained.read(str(published.path))
    ours = build_resnet(num_classes=None)
    assert pretrained.load_into(ours, weights) == ()
    features = ours(published.images, training=False).numpy()
    assert 0.1 < np.abs(published.features).max() < 100
    np.testing.assert_allclose(features, published.features, rtol=1e-4, atol=1e-4)
    assert weights.meaning == KERAS_NETWORK
    # A batch's own statistics take no notice of the folded biases.
    in_training = [
        model.stateless_call(
            model.trainable_variables,
            model.non_trainable_variables,
            published.images,
            training=True,
        )[0]
        for model in (ours, published.model)
    ]
    np.testing.assert_allclose(*in_training, rtol=1e-3, atol=1e-3)


def test_weights_h5_of_a_network_around_keras_applications(
    published: Published, tmp_path: Path
) -> None:
    """Nested in another model, with a head of its own, saved by Keras 3."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(published.model(inputs))
    outer = keras.Model(inputs, keras.layers.Dense(7, name="scores")(x))
    outer.save_weights(tmp_path / "tuned.weights.h5")
    weights = pretrained.read(str(tmp_path / "tuned.weights.h5"))
    ours = build_resnet(num_classes=10)
    (note,) = pretrained.load_into(ours, weights)
    assert note.startswith("the head starts fresh: that of the weights has no predictions/kernel")
    features = ours.get_layer("conv5_block3_out").output
    backbone = keras.Model(ours.input, features)
    np.testing.assert_allclose(
        backbone(published.images, training=False), published.features, rtol=1e-4, atol=1e-4
    )
    assert weights.meaning == KERAS_NETWORK


def test_the_cifar_stem_keeps_its_fresh_convolution(published: Published) -> None:
    weights = pretrained.read(str(published.path))
    ours = build_resnet(stem="cifar")
    before = values(ours)
    notes = pretrained.load_into(ours, weights)
    assert [note.split(":")[0] for note in notes] == [
        "conv1_conv and the statistics of conv1_bn start fresh",
        "the head starts fresh",
    ]
    after = values(ours)
    unchanged = {path for path in after if np.array_equal(after[path], before[path])}
    assert unchanged == {
        "conv1_conv/kernel",
        "conv1_bn/moving_mean",
        "conv1_bn/moving_variance",
        "predictions/kernel",
        "predictions/bias",
    }
    np.testing.assert_array_equal(
        after["conv1_bn/gamma"], published.model.get_layer("conv1_bn").gamma.numpy()
    )


def test_imagenet_is_found_in_keras_cache(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / imagenet_name(50)).symlink_to(published.path)
    monkeypatch.setitem(imagenet._MD5, 50, imagenet._md5(published.path))
    weights = pretrained.read("imagenet", depth=50)
    assert weights.origin == "imagenet"
    assert weights.meaning == KERAS_APPLICATIONS
    # By its content, whatever it is called.
    assert pretrained.read(str(published.path)).meaning == KERAS_APPLICATIONS
    assert weights.layers["conv1_conv"]["kernel"].shape == (7, 7, 3, 64)


def preprocessed(*layers: keras.layers.Layer) -> keras.Model:
    """A small network of ours behind layers of its own."""
    inputs = x = keras.Input((16, 16, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, small()(x))


CIFAR = {
    "mean": [125.307, 122.961, 113.8575],
    "variance": [62.985**2, 62.0925**2, 66.708**2],
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}
BY_255 = ("Rescaling", {"scale": 1 / 255})


@pytest.mark.parametrize(
    ("layers", "scheme"),
    [
        ([], None),
        ([BY_255], "unit"),
        ([("RandomFlip", {}), ("Resizing", {"height": 16, "width": 16}), BY_255], "unit"),
        ([("Normalization", CIFAR)], "cifar"),
        ([BY_255, ("Normalization", IMAGENET)], "imagenet"),
        ([("Normalization", IMAGENET)], "imagenet"),  # fed with 0..1
        # Arithmetic that is not read here: they do not say.
        ([BY_255, ("Activation", {"activation": "tanh"})], None),
    ],
)
def test_layers_in_front_of_the_network_tell_its_pixels(
    tmp_path: Path, layers: list, scheme: str | None
) -> None:
    made = [getattr(keras.layers, kind)(**arguments) for kind, arguments in layers]
    preprocessed(*made).save(tmp_path / "own.keras")
    weights = pretrained.read(str(tmp_path / "own.keras"))
    assert weights.meaning.normalise == scheme
    assert weights.meaning.own_pixels is None
    if scheme is not None:
        pixels = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
        fed = pixels / 255 if layers == [("Normalization", IMAGENET)] else pixels
        for layer in made:
            fed = layer(fed, training=False) if layer.name.startswith("random") else layer(fed)
        np.testing.assert_allclose(normalise(tf.constant(pixels), scheme), fed, atol=0.02)


def test_adapted_statistics_are_read_from_the_weights(tmp_path: Path) -> None:
    layer = keras.layers.Normalization()
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (64, 8, 8, 3))
    values = (values - values.mean((0, 1, 2))) / values.std((0, 1, 2))
    layer.adapt(values * [62.985, 62.0925, 66.708] + [125.307, 122.961, 113.8575])
    for name in ("own.keras", "own.h5"):
        preprocessed(layer).save(tmp_path / name)
        assert pretrained.read(str(tmp_path / name)).meaning.normalise == "cifar"


def test_pixels_that_no_scheme_makes_are_refused_or_a_warning(tmp_path: Path) -> None:
    preprocessed(keras.layers.Rescaling(1 / 127.5, offset=-1)).save(tmp_path / "own.keras")
    meaning = pretrained.read(str(tmp_path / "own.keras")).meaning
    with pytest.raises(
        ConfigError, match=r"pixels 0\.\.255 into -1 to 1, -1 to 1, -1 to 1 in"
    ) as refused:
        settle(meaning)
    assert "\n" not in str(refused.value)
    (warning,) = settle(meaning, normalise="unit").warnings
    assert warning.startswith(
        "normalise unit: the weights are those of a network whose layers turn"
    )


def test_a_users_flag_is_no_fault_where_the_weights_do_not_say(published: Published) -> None:
    meaning = pretrained.read(str(published.path)).meaning
    assert settle(meaning, normalise="unit").warnings == ()
    (note,) = settle(meaning).notes
    assert note.startswith("the weights do not say what they were trained with; taken: normalise")
    assert note.endswith("say --normalise unit, imagenet or caffe")


def test_layer_names_of_old_keras_are_named_as_such() -> None:
    weights = pretrained.Pretrained("old.h5", {"bn2a_branch2a": {}, "conv1": {}}, Meaning())
    refused(small(), weights, "'bn2a_branch2a': that is the ResNet50 of Keras up to 2.2")


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("arguments", [{}, {"stem": "cifar", "stride_version": "v1.5"}])
def test_files_of_our_own_networks(tmp_path: Path, suffix: str, arguments: dict) -> None:
    saved = randomise(small(batch_norm_epsilon=1e-3, **arguments))
    path = tmp_path / f"saved{suffix}"
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    loaded = small(batch_norm_epsilon=1e-3, **arguments)
    weights = pretrained.read(str(path))
    assert pretrained.load_into(loaded, weights) == ()
    for name, value in values(saved).items():
        np.testing.assert_array_equal(values(loaded)[name], value)
    stem = arguments.get("stem", "imagenet")
    version = arguments.get("stride_version", "v1")
    if suffix == ".keras":
        assert weights.meaning == Meaning(stem, version, "symmetric", 1e-3, None)
    else:
        assert weights.meaning == Meaning(stem)


def test_weights_of_a_run() -> None:
    saved = randomise(small())
    weights = run_weights(saved, class_names=("a", "b", "c"))
    assert weights.meaning == RUN
    loaded = small()
    assert pretrained.load_into(loaded, weights, class_names=("a", "b", "c")) == ()
    for name, value in values(saved).items():
        np.testing.assert_array_equal(values(loaded)[name], value)
    averages = {f"average/{path}": value for path, value in values(saved).items()}
    averaged = pretrained.from_arrays(averages, origin="runs/b", meaning=RUN, prefix="average/")
    assert averaged.layers.keys() == weights.layers.keys()
    with pytest.raises(WeightsError, match="none in 'runs/b'"):
        pretrained.from_arrays({"x": np.zeros(1)}, origin="runs/b", meaning=RUN)


def test_weights_go_to_every_replica() -> None:
    saved = randomise(small())
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        mirrored = small()
    pretrained.load_into(mirrored, run_weights(saved))
    expected = values(saved)
    for variable in mirrored.variables:
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy, expected[variable.path])


@pytest.mark.parametrize(
    ("old", "new", "classes", "reason"),
    [
        ({"num_classes": 5}, {}, None, "that of the weights is for 5 classes, not 3"),
        ({"num_classes": None}, {}, None, "the weights have none"),
        ({}, {}, ("a", "b", "z"), "that of the weights is for other classes, such as 'a'"),
        ({"num_classes": 3}, {"num_classes": 2}, ("a", "b"), "is for 3 classes, not 2"),
        ({"head": "mlp"}, {}, None, "predictions/kernel must have shape (256, 3) and has (64, 3)"),
        ({}, {"head": "mlp"}, None, "that of the weights has no head_0_bn/gamma"),
    ],
)
def test_a_head_that_does_not_fit_starts_fresh(
    old: dict, new: dict, classes: tuple[str, ...] | None, reason: str
) -> None:
    loaded = small(**new)
    before, saved = values(loaded), randomise(small(**old))
    weights = run_weights(saved, class_names=("a", "b", "c") if classes else None)
    (note,) = pretrained.load_into(loaded, weights, class_names=classes)
    assert note.startswith("the head starts fresh: ")
    assert reason in note
    for path, value in values(loaded).items():
        fresh = path.startswith(("predictions", "head"))
        np.testing.assert_array_equal(value, before[path] if fresh else values(saved)[path])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"depth": 26},
            r"must be those of this resnet14\. Received: 'runs/a', which differs in "
            r"conv2_block2_1_conv/kernel \(none wanted, \(1, 1, 32, 8\) there\); "
            r"conv2_block2_1_bn/gamma .*; and in 21 more layers\. They look like depth 26$",
        ),
        (
            {"width": 16},
            r"conv1_conv/kernel \(\(7, 7, 3, 8\) wanted, \(7, 7, 3, 16\) there\); "
            r"conv1_bn/gamma \(\(8,\) wanted, \(16,\) there\); conv2_block1_.*layers$",
        ),
        # Only the other way round may the first convolution start fresh.
        ({"stem": "cifar"}, r"in conv1_conv/kernel .* \(3, 3, 3, 8\) there\)$"),
    ],
)
def test_weights_of_another_network_are_refused(arguments: dict, message: str) -> None:
    refused(small(), run_weights(randomise(small(**arguments))), message)


def test_weights_of_another_kind_of_network_are_refused(tmp_path: Path) -> None:
    other = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="block1_conv1")]
    )
    other.save_weights(tmp_path / "other.weights.h5")
    weights = pretrained.read(str(tmp_path / "other.weights.h5"))
    refused(small(), weights, r"conv1_conv/kernel \(.* wanted, none there\); conv1_bn")


def test_weights_that_are_not_finite_are_refused() -> None:
    saved = randomise(small())
    saved.get_layer("conv3_block1_1_bn").beta.assign(np.full(16, np.nan))
    refused(small(), run_weights(saved), "must be finite. Received: conv3_block1_1_bn/beta")


def test_a_bias_that_no_batch_norm_takes_is_refused() -> None:
    weights = run_weights(randomise(small()))
    weights.layers["conv3_block1_1_conv"]["bias"] = np.zeros(3)
    refused(small(), weights, r"in conv3_block1_1_conv/bias \(none wanted, \(3,\) there\)$")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"or the folder of a run\. Received: .* without a run"):
        pretrained.read(str(tmp_path))


def test_a_copy_cut_short_is_refused(published: Published, tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    shutil.copyfile(published.path, path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(WeightsError, match=r"must be a whole file.*cut\.h5.*truncated"):
        pretrained.read(str(path))
