"""Policies as functions: the same on every path, for every slice, at every call."""

import re

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment import POLICIES, Policy, get
from fastcifar.augment import operations as op
from fastcifar.augment.build import build
from fastcifar.augment.geometry import warp
from fastcifar.augment.preprocess import resize
from fastcifar.errors import ConfigError

SEED = np.array([7, 3], np.int64)
COMPILED = [name for name, policy in POLICIES.items() if policy.compiled]
COMBINED = ["standard+mixup", "trivial+cutmix", "colour+mixup+cutmix"]
EVERYTHING = Policy(
    "everything",
    (
        op.AlternatingFlip(),
        op.Flip("vertical"),
        op.RandomResizedCrop(),
        op.Translate(),
        op.Shear(),
        op.Zoom((0.7, 1.3)),
        op.Greyscale(),
        op.Invert(),
        op.Equalise(),
        op.Autocontrast(),
        op.Posterise(),
        op.Solarise(),
        op.Sharpness(),
        op.GaussianNoise(),
        op.RandomErasing(),
        op.RandAugment(layers=3),
        op.CutMix(0.3),
    ),
)


def augmented(policy, images, labels, size=(12, 10), **options):
    augment = build(policy, image_size=size, num_classes=10, **options)
    places = np.arange(len(images))
    return augment(images, labels, SEED, places, places)


def assert_close(received, expected, atol=2e-2, message=""):
    for mine, theirs in zip(received, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(
            np.asarray(mine, np.float64),
            np.asarray(theirs, np.float64),
            atol=atol,
            err_msg=message,
        )


def every_path(policy, images, labels, size):
    """The results of a graph, of tf.data in batches of 8 and of a compiled program."""
    augment = build(policy, image_size=size, num_classes=10)
    positions = tf.range(len(images), dtype=tf.int64)
    yield "graph", tf.function(augment)(images, labels, SEED, positions, positions)
    data = tf.data.Dataset.from_tensor_slices((images, labels, positions))
    batches = [*data.batch(8, drop_remainder=True).map(lambda x, y, p: augment(x, y, SEED, p, p))]
    yield "tf.data", tuple(tf.concat(parts, axis=0) for parts in zip(*batches, strict=True))
    compiled = tf.function(augment, jit_compile=True)
    given = (tf.constant(images), tf.constant(labels), SEED, positions, positions)
    yield "compiled", compiled(*given)


@pytest.mark.parametrize(
    ("policy", "size"),
    [("standard+mixup", (24, 20)), ("trivial", (12, 10)), ("flip-rotate-zoom", (7, 13))],
)
def test_eager_graph_data_and_compiled_agree(policy, size, images, labels):
    expected = augmented(policy, images, labels, size)
    for path, received in every_path(policy, images, labels, size):
        assert_close(received, expected, message=path)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(12, 10), (24, 20), (6, 5)])
@pytest.mark.parametrize(
    "policy", [*COMPILED, *COMBINED, EVERYTHING], ids=lambda p: getattr(p, "name", p)
)
def test_every_policy_agrees_on_every_path(policy, size, images, labels):
    test_eager_graph_data_and_compiled_agree(policy, size, images, labels)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("policy", [*COMPILED, *COMBINED])
def test_every_policy_agrees_in_half_precision(policy, dtype, images, labels):
    exact = augmented(policy, images, labels, (24, 20))
    for received in (
        augmented(policy, images, labels, (24, 20), dtype=dtype),
        tf.function(
            build(policy, image_size=(24, 20), num_classes=10, dtype=dtype), jit_compile=True
        )(tf.constant(images), tf.constant(labels), SEED, np.arange(16), np.arange(16)),
    ):
        assert received[0].dtype == dtype
        # 8 bits of precision, lost three times: in the matrices, between them and at the end.
        np.testing.assert_allclose(
            tf.cast(received[0], tf.float32), exact[0], atol=4 if dtype == "bfloat16" else 0.6
        )
        np.testing.assert_allclose(received[1], exact[1], atol=1e-6)


@pytest.mark.parametrize(
    "policy", [*COMPILED, *COMBINED, EVERYTHING], ids=lambda p: getattr(p, "name", p)
)
@pytest.mark.parametrize("replicas", [2, 4])
def test_slices_give_what_the_whole_batch_gives(policy, replicas):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (32, 12, 10, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 32).astype(np.int32)
    augment = build(policy, image_size=(16, 14), num_classes=10)
    positions = np.arange(64, 96)
    whole = augment(images, labels, SEED, positions, positions)
    parts = [
        augment(images[part], labels[part], SEED, positions[part], positions[part])
        for part in np.split(np.arange(32), replicas)
    ]
    sliced = [tf.concat(values, axis=0) for values in zip(*parts, strict=True)]
    assert_close(sliced, whole, atol=1e-4)


@pytest.mark.parametrize("policy", [*COMPILED, *COMBINED])
def test_shapes_dtypes_and_ranges(policy, images, labels):
    received, new_labels = augmented(policy, images, labels, (24, 20))
    assert received.shape == (16, 24, 20, 3)
    assert received.dtype == tf.float32
    assert np.min(received) >= -1e-3
    assert np.max(received) <= 255.001
    if (get(policy)).mixes:
        assert new_labels.dtype == tf.float32
        assert new_labels.shape == (16, 10)
    else:
        np.testing.assert_array_equal(new_labels, labels)
        assert new_labels.dtype == tf.int32


@pytest.mark.parametrize("policy", sorted(set(COMPILED) - {"none"}))
def test_the_draws_depend_on_position_epoch_and_seed(policy, images, labels):
    same = np.repeat(images[:1], 16, axis=0)
    labels = np.zeros(16, np.int32)
    source = images if get(policy).mixes else same
    augment = build(policy, image_size=(12, 10), num_classes=10)

    def drawn(seed, positions):
        return augment(source, labels, seed, positions, np.arange(16))[0].numpy()

    first = drawn(SEED, np.arange(16))
    np.testing.assert_array_equal(drawn(SEED, np.arange(16)), first)
    if not get(policy).mixes:
        assert len(np.unique(first.reshape(16, -1), axis=0)) > 1
    others = drawn(SEED, np.arange(16, 32))
    # The one draw that belongs to the image, wherever it stands.
    assert np.array_equal(others, first) == (policy == "alternating-flip")
    assert not np.array_equal(drawn(SEED + np.array([1, 0]), np.arange(16)), first)
    assert not np.array_equal(drawn(SEED + np.array([0, 1]), np.arange(16)), first)


def test_a_second_call_does_not_trace_again(images, labels):
    augment = build("trivial+mixup", image_size=(16, 16), num_classes=10)
    traces = []

    @tf.function
    def step(x, y, seed, positions):
        traces.append(1)
        return augment(x, y, seed, positions)

    for epoch in range(3):
        seed = tf.constant([7, epoch], tf.int64)
        positions = tf.range(epoch * 16, epoch * 16 + 16, dtype=tf.int64)
        step(tf.constant(images), tf.constant(labels), seed, positions)
    assert len(traces) == 1


def test_none_is_the_resize(images, labels):
    for size in ((12, 10), (24, 20), (6, 5)):
        received, same = augmented("none", images, labels, size)
        np.testing.assert_array_equal(received, resize(images, size))
        np.testing.assert_array_equal(same, labels)


def test_a_policy_is_its_parts(images, labels):
    # The first columns go to the first operations, whatever follows.
    received, _ = augmented("flip-crop", images, labels)
    expected = warp(images, SEED, np.arange(16), get("flip-crop").operations)
    np.testing.assert_array_equal(received, expected)
    covered, _ = augmented("standard", images, labels)
    hidden = (covered.numpy() == op.MEAN_COLOUR).all(axis=3)
    np.testing.assert_array_equal(covered.numpy()[~hidden], received.numpy()[~hidden])
    assert 0.01 < hidden.mean() < 0.08  # 3 by 3 of 12 by 10, some of it over the border


def test_the_orientation_of_an_alternating_flip_does_not_depend_on_the_colours(images, labels):
    darker = Policy("darker", (op.Brightness((0.5, 0.5)), op.AlternatingFlip()))
    received, _ = augmented(darker, images, labels)
    expected, _ = augmented("alternating-flip", images, labels)
    np.testing.assert_array_equal(received, expected.numpy() / 2)


def test_erasing_is_drawn_on_what_is_seen(labels):
    # Flipping or not, the same rectangle is covered: it does not move with the picture.
    white = np.full((16, 12, 10, 3), 255, np.uint8)
    cutout = op.Cutout(0.3, fill=(0, 0, 0))
    plain, mirrored = (
        augmented(Policy("p", (op.Flip(probability=p), cutout)), white, labels)[0] for p in (0, 1)
    )
    np.testing.assert_array_equal(mirrored, plain)
    assert np.any(plain != plain[:, :, ::-1])


@pytest.mark.parametrize("policy", ["flip-crop", "standard", "resized-crop", "mixup"])
def test_forms_agree(policy, images, labels):
    for size in ((12, 10), (24, 20)):
        matmul, gather = (
            augmented(policy, images, labels, size, form=form) for form in ("matmul", "gather")
        )
        assert_close(matmul, gather)


def test_float_images_give_what_uint8_images_give(images, labels):
    for policy in ("standard", "rand", "alternating-flip"):
        assert_close(
            augmented(policy, images.astype(np.float32), labels),
            augmented(policy, images, labels),
            atol=1e-4,
        )


def test_sizes_of_progressive_resizing_show_the_same_draws(images, labels):
    small, _ = augmented("flip-crop", images, labels, (12, 10))
    large, _ = augmented("flip-crop", images, labels, (24, 20))
    np.testing.assert_allclose(tf.image.resize(small, (24, 20)), large, atol=1e-3)


def test_keras_cv_runs_in_a_graph(images, labels):
    augment = build("keras-cv", image_size=(24, 20), num_classes=10)
    received, same = tf.function(augment)(
        tf.constant(images), tf.constant(labels), SEED, tf.range(16, dtype=tf.int64)
    )
    assert received.shape == (16, 24, 20, 3)
    assert received.dtype == tf.float32
    assert not np.array_equal(received, resize(images, (24, 20)))
    np.testing.assert_array_equal(same, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "standart"}, "Did you mean 'standard'"),
        ({"image_size": (0, 32)}, "image_size"),
        ({"num_classes": 1}, "num_classes must be a whole number above 1. Received: 1"),
        ({"resize_method": "lanczos"}, "resize method must be one of bilinear, nearest"),
        ({"form": "magic"}, "form must be one of auto, matmul, gather"),
        ({"dtype": "int32"}, "dtype must be floating. Received: int32"),
    ],
)
def test_bad_arguments_of_build(change, message):
    arguments = {"policy": "none", "image_size": (32, 32), "num_classes": 10} | change
    with pytest.raises(ConfigError, match=message):
        build(arguments.pop("policy"), **arguments)


@pytest.mark.parametrize(
    ("policy", "change", "message"),
    [
        ("flip", {"images": np.zeros((4, 4, 3), np.uint8)}, r"shape \[B, h, w, 3\]"),
        ("flip", {"images": np.zeros((8, 4, 4, 1), np.uint8)}, r"shape \[B, h, w, 3\]"),
        ("flip", {"images": np.zeros((8, 4, 4, 3), np.int64)}, "uint8 or floating"),
        ("flip", {"images": np.zeros((8, 0, 4, 3), np.uint8)}, "at least one pixel"),
        ("flip", {"labels": np.zeros(7, np.int32)}, r"integers of shape \[8\]"),
        ("flip", {"labels": np.zeros((8, 10), np.float32)}, r"integers of shape \[8\]. Received"),
        ("mixup", {"labels": np.zeros((8, 9), np.float32)}, r"floating of shape \[8, 10\]"),
        ("flip", {"seed": np.zeros(3, np.int64)}, r"seed must have shape \[2\]"),
        ("flip", {"seed": np.zeros(2)}, "seed must hold integers"),
        ("flip", {"positions": np.zeros(9, np.int64)}, r"positions must have shape \(8,\)"),
        ("flip", {"positions": np.zeros(8)}, "positions must hold integers"),
        ("flip", {"indices": np.zeros(9, np.int64)}, r"indices must be integers of shape \(8,\)"),
        ("flip", {"indices": np.zeros(8)}, "indices must be integers"),
        ("alternating-flip", {}, "an alternating flip needs indices"),
        ("flip-rotate-zoom", {"form": "matmul"}, "cannot rotate or shear"),
    ],
)
def test_bad_arguments_of_the_function(policy, change, message):
    arguments = {
        "images": np.zeros((8, 4, 4, 3), np.uint8),
        "labels": np.zeros(8, np.int32),
        "seed": SEED,
        "positions": np.arange(8),
    } | change
    augment = build(policy, image_size=(4, 4), num_classes=10, form=arguments.pop("form", "auto"))
    with pytest.raises(ConfigError, match=message):
        augment(**arguments)
    # Nothing is compiled first: tracing already answers, with the same one line.
    with pytest.raises(ConfigError, match=message):
        tf.function(augment, jit_compile=True)(**arguments)


@pytest.mark.parametrize(("policy", "group"), [("mixup", 2), ("rand", 8)])
def test_batches_that_are_no_multiple_of_the_group_are_refused(policy, group):
    augment = build(policy, image_size=(4, 4), num_classes=10)
    images, labels = np.zeros((group + 1, 4, 4, 3), np.uint8), np.zeros(group + 1, np.int32)
    with pytest.raises(ConfigError, match=f"'{policy}' works on groups of {group} images"):
        augment(images, labels, SEED, np.arange(group + 1))
    unknown = [
        tf.TensorSpec([None, 4, 4, 3], tf.uint8),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([2], tf.int64),
        tf.TensorSpec([None], tf.int64),
    ]
    with pytest.raises(ConfigError, match=r"static size.*Received: None"):
        tf.function(augment).get_concrete_function(*unknown)


@pytest.mark.parametrize("policy", ["standard", "flip-rotate-zoom", "colour"])
def test_batches_of_any_size_pass_where_images_are_independent(policy, images, labels):
    augment = build(policy, image_size=(16, 16), num_classes=10)
    function = tf.function(
        augment,
        input_signature=[
            tf.TensorSpec([None, 12, 10, 3], tf.uint8),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([2], tf.int64),
            tf.TensorSpec([None], tf.int64),
        ],
    )
    whole, _ = augment(images, labels, SEED, np.arange(16))
    for count in (0, 1, 5):
        part, _ = function(images[:count], labels[:count], SEED, np.arange(count))
        np.testing.assert_allclose(part, whole[:count], atol=1e-3)


@pytest.mark.parametrize("policy", ["standard", "cutmix", "mixup", "trivial", "alternating-flip"])
def test_compiled_an_image_s_numbers_are_not_hashed_again_for_each_pixel(policy):
    """XLA fuses what it can into the loop over pixels, where it would compute it each time."""
    batch, size = 16, 32
    augment = build(policy, image_size=(size, size), num_classes=10)
    compiled = tf.function(augment, jit_compile=True, autograph=False)
    ir = compiled.experimental_get_compiler_ir(
        tf.zeros([batch, size, size, 3], tf.uint8),
        tf.zeros([batch, 10]) if policy in ("cutmix", "mixup") else tf.zeros([batch], tf.int32),
        tf.zeros([2], tf.int64),
        tf.range(batch, dtype=tf.int64),
        tf.range(batch, dtype=tf.int64),
    )
    loops = ir(stage="optimized_hlo").split("\n\n")
    hashing = [loop for loop in loops if re.search(r"u64\[[\d,]*\]\S* multiply\(", loop)]
    assert hashing
    over_pixels = re.compile(rf"\[{batch},{size},{size},3\]|\[{batch},{size * size},3\]")
    assert not any(over_pixels.search(loop) for loop in hashing)
