"""The train step in every layout that one process can hold."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from tests.training.reference import reference
from tests.training.tiny import BATCH, EXAMPLES, SEED, Run, mirrored, tiny_model, tiny_split

# Compiled for two replicas, a step takes the longest to make; some tests of it are enough.
LAYOUTS = [(1, False), (1, True), (2, False), pytest.param(2, True, marks=pytest.mark.slow)]


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_equals_a_plain_loop_in_float64(replicas, xla, accumulate):
    strategy = mirrored() if replicas == 2 else None
    config = OptimizerConfig(accumulate=accumulate)
    run = Run(strategy=strategy, dtype="float64", xla=xla, optimizer=config)
    losses, weights = reference(5, replicas, accumulate)
    received = [m.loss for m in run.run(1, 1, 1, 1, 1)]
    np.testing.assert_allclose(received, losses, rtol=1e-5)
    for mine, expected in zip(run.model.variables, weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_per_call_do_not_change_a_bit(replicas, dtype):
    singly, together = (
        Run(strategy=mirrored() if replicas == 2 else None, dtype=dtype) for _ in range(2)
    )
    one_by_one = singly.run(*[1] * 6)
    (at_once,) = together.run(6)
    assert_same_bits(singly.arrays(), together.arrays())
    assert at_once.loss == pytest.approx(sum(m.loss for m in one_by_one), rel=1e-12)
    assert at_once.images == 6 * BATCH


@pytest.mark.parametrize("cache", ["memory", "device"])
def test_calls_of_any_length_trace_once(cache):
    run = Run(strategy=mirrored(), cache=cache)
    run.run(1, 3, 2, 1)
    assert run.step.traces == 1


@pytest.mark.parametrize(("xla", "sync"), [(False, False), (True, False), (False, True)])
def test_one_trace_serves_all_replicas(xla, sync):
    traced = []

    def transform(images, labels, seed, positions, indices):
        traced.append(images)
        return tf.cast(images, tf.float32) / 255, labels

    run = Run(
        strategy=mirrored(),
        xla=xla,
        transform=transform,
        build=functools.partial(tiny_model, sync_batch_norm=sync),
        sync_batch_norm=sync,
    )
    run.run(2)
    assert len(traced) == 1


@pytest.mark.parametrize("replicas", [1, 2])
def test_images_on_the_device_give_the_same_bits(replicas):
    host, device = (
        Run(strategy=mirrored() if replicas == 2 else None, cache=cache)
        for cache in ("memory", "device")
    )
    host.run(4)
    device.run(4)
    assert_same_bits(host.arrays(), device.arrays())


@pytest.mark.parametrize(
    ("dtype", "xla"),
    [
        *((dtype, False) for dtype in ("float32", "mixed_bfloat16", "mixed_float16")),
        ("mixed_bfloat16", True),
        pytest.param("float32", True, marks=pytest.mark.slow),
        pytest.param("mixed_float16", True, marks=pytest.mark.slow),
    ],
)
def test_replicas_stay_equal(dtype, xla):
    run = Run(strategy=mirrored(), dtype=dtype, xla=xla)
    run.run(1, 2)
    for name, variable in run.state.variables():
        first, second = (v.numpy() for v in run.strategy.experimental_local_results(variable))
        np.testing.assert_array_equal(first, second, err_msg=name)
        assert np.isfinite(first).all()
    moved = dict(run.state.variables())["model/bn/moving_mean"].numpy()
    assert np.abs(moved).max() > 0


@pytest.mark.parametrize(("replicas", "xla"), LAYOUTS)
def test_an_overflow_is_skipped_and_halves_the_scale(replicas, xla):
    strategy = mirrored() if replicas == 2 else None

    def overflow_once(images, labels, seed, positions, indices):
        """Step 1 (positions 8 to 15) has an image that is infinite."""
        images = tf.cast(images, tf.float16) / 255
        bad = tf.where(positions == 9, tf.constant(np.inf, tf.float16), tf.constant(1, tf.float16))
        return images * bad[:, None, None, None], labels

    run = Run(strategy=strategy, dtype="mixed_float16", xla=xla, transform=overflow_once)
    (first,) = run.run(1)
    before, scale = run.arrays(), run.state.loss_scale.numpy()
    (second,) = run.run(1)
    after = run.arrays()
    assert (first.skipped, second.skipped) == (0, 1)
    # Nothing of it counts, or one infinite loss would be the mean of a whole epoch.
    assert (second.loss, second.correct, second.images) == (0, 0, 0)
    assert second.first_bad_step == -1
    assert after["loss_scale"] == scale / 2
    assert after["updates"] == 1
    for name, value in before.items():
        if name not in ("loss_scale", "good_steps"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    (third,) = run.run(1)
    assert third.skipped == 0
    assert run.state.updates.numpy() == 2
    assert all(np.isfinite(value).all() for value in run.arrays().values())


@pytest.mark.parametrize("replicas", [1, 2])
def test_accumulation_without_batch_norm_is_the_whole_batch(replicas):
    strategy = mirrored() if replicas == 2 else None
    whole, parts = (
        Run(
            strategy=strategy,
            dtype="float64",
            batch_norm=False,
            optimizer=OptimizerConfig(accumulate=accumulate),
        )
        for accumulate in (1, 4)
    )
    whole.run(6)
    parts.run(6)
    for name, value in whole.arrays().items():
        np.testing.assert_allclose(parts.arrays()[name], value, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_first_gradients_in_float32_are_those_of_float64(replicas, xla):
    plain = OptimizerConfig(momentum=0.0, weight_decay=0.0)
    strategy = mirrored() if replicas == 2 else None
    run = Run(strategy=strategy, xla=xla, optimizer=plain, rate=1.0)
    model = tiny_model("float64")
    for mine, theirs in zip(model.variables, run.model.variables, strict=True):
        mine.assign(tf.cast(theirs.value, tf.float64))
    before = [v.numpy() for v in model.variables]
    (metrics,) = run.run(1)
    (loss,), after = reference(1, replicas, model=model, rate=1.0, momentum=0.0, weight_decay=0.0)
    assert metrics.loss == pytest.approx(loss, rel=1e-4)
    # At a rate of one, what the weights moved by is the gradient.
    for variable, start, end in zip(run.model.variables, before, after, strict=True):
        moved, expected = start - variable.numpy(), start - end
        np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_synchronised_batch_norm_makes_two_replicas_one(accumulate):
    def build(dtype):
        return tiny_model(dtype, sync_batch_norm=True)

    config = OptimizerConfig(accumulate=accumulate)
    one = Run(dtype="float64", optimizer=config)
    two = Run(
        strategy=mirrored(), dtype="float64", build=build, optimizer=config, sync_batch_norm=True
    )
    apart = Run(strategy=mirrored(), dtype="float64", optimizer=config)
    for run in (one, two, apart):
        run.run(5)
    expected = one.arrays()
    far = 0.0
    for name, value in two.arrays().items():
        if accumulate == 1:  # the parts of two replicas are not those of one
            np.testing.assert_allclose(value, expected[name], rtol=1e-8, atol=1e-12, err_msg=name)
        far = max(far, np.abs(value - apart.arrays()[name]).max())
    assert far > 1e-4  # statistics of half the batch are others


@pytest.mark.parametrize(("replicas", "xla"), LAYOUTS)
def test_averages_follow_the_weights(replicas, xla):
    strategy = mirrored() if replicas == 2 else None
    run = Run(strategy=strategy, xla=xla, optimizer=OptimizerConfig(ema=0.5))
    names = [name for name in run.arrays() if name.startswith("average/")]
    assert [name.removeprefix("average/") for name in names] == [
        *(v.path for v in run.model.trainable_variables),
        *(v.path for v in run.model.non_trainable_variables),
    ]
    expected = {name: run.arrays()[name.replace("average", "model")] for name in names}
    for update in range(1, 5):
        run.run(1)
        decay = min(0.5, (1 + update) / (10 + update))
        now = run.arrays()
        for name in names:
            weight = now[name.replace("average", "model")]
            expected[name] = decay * expected[name] + (1 - decay) * weight
            np.testing.assert_allclose(now[name], expected[name], rtol=1e-5, atol=1e-6)


def test_a_skipped_step_leaves_the_averages():
    def overflow(images, labels, seed, positions, indices):
        return tf.cast(images, tf.float16) * np.float16(np.inf), labels

    run = Run(dtype="mixed_float16", transform=overflow, optimizer=OptimizerConfig(ema=0.5))
    before = run.arrays()
    assert run.run(1)[0].skipped == 1
    for name, value in run.arrays().items():
        if name.startswith("average/"):
            np.testing.assert_array_equal(value, before[name])


def test_gradients_added_up_in_bfloat16_are_near():
    exact, rounded = (Run(strategy=mirrored(), reduce_dtype=d) for d in ("float32", "bfloat16"))
    before = exact.arrays()
    one, two = exact.run(1)[0], rounded.run(1)[0]
    assert (one.loss, one.correct, one.images) == (two.loss, two.correct, two.images)
    differs = False
    for name, value in exact.arrays().items():
        other = rounded.arrays()[name]
        if name.startswith("model/") and "moving" not in name:
            moved = np.abs(value - before[name]).max()
            assert np.abs(other - value).max() <= 2**-7 * moved, name
            differs |= bool((other != value).any())
        elif "moving" in name:  # statistics are not rounded
            np.testing.assert_array_equal(other, value, err_msg=name)
    assert differs


def test_first_bad_step_is_told():
    def poison(images, labels, seed, positions, indices):
        images = tf.cast(images, tf.float32) / 255
        bad = tf.where(positions[0] >= 3 * BATCH, np.nan, 1.0)
        return images * tf.cast(bad, tf.float32), labels

    metrics = Run(transform=poison).run(2, 4)
    assert [m.first_bad_step for m in metrics] == [-1, 3]


def test_clip_norm_bounds_the_update():
    plain = OptimizerConfig(momentum=0.0, weight_decay=0.0)
    clipped = OptimizerConfig(momentum=0.0, weight_decay=0.0, clip_norm=1e-3)
    norms = []
    for config in (plain, clipped):
        run = Run(optimizer=config, rate=1.0)
        before = [v.numpy() for v in run.model.trainable_variables]
        run.run(1)
        after = [v.numpy() for v in run.model.trainable_variables]
        norms.append(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(after, before, strict=True))))
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_learning_rates_are_read_by_step():
    rates = np.array([0.1, 0.1, 0, 0, 0, 0], np.float32)
    run = Run(steps=6, rate=rates, optimizer=OptimizerConfig(momentum=0.0))
    start = run.arrays()["model/conv/kernel"]
    run.run(2)
    moved = run.arrays()["model/conv/kernel"]
    run.run(4)
    assert np.abs(moved - start).max() > 0
    np.testing.assert_array_equal(run.arrays()["model/conv/kernel"], moved)


def test_mixed_labels_reach_the_loss():
    def soften(images, labels, seed, positions, indices):
        soft = tf.one_hot(labels, 3) * 0.5 + tf.one_hot((labels + 1) % 3, 3) * 0.5
        return tf.cast(images, tf.float32) / 255, soft

    (metrics,) = Run(transform=soften).run(1)
    assert metrics.loss / metrics.images >= np.log(2)


def test_the_seed_tells_run_and_epoch():
    def leak(images, labels, seed, positions, indices):
        """Turn (seed, epoch) into a loss that tells them: NaN unless they are as expected."""
        right = tf.equal(seed[0], SEED) & (seed[1] >= 0) & (seed[1] <= 1)
        factor = tf.where(right, 1.0, np.nan)
        return tf.cast(images, tf.float32) / 255 * tf.cast(factor, tf.float32), labels

    assert all(m.first_bad_step == -1 for m in Run(transform=leak).run(6, 6))


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"cache": "device"},
        {"optimizer": OptimizerConfig(accumulate=2)},
        {"strategy": 2, "cache": "device", "optimizer": OptimizerConfig(accumulate=2)},
    ],
    ids=["plain", "resident", "accumulated", "replicas"],
)
def test_each_image_comes_with_its_own_index(layout):
    split = tiny_split()
    split.images[:] = np.arange(EXAMPLES)[:, None, None, None]  # each tells its index

    def compare(images, labels, seed, positions, indices):
        images = tf.cast(images, tf.float32)
        right = tf.reduce_all(tf.equal(images[:, 0, 0, 0], tf.cast(indices, tf.float32)))
        return images / 255 * tf.where(right, 1.0, np.nan), labels

    if "strategy" in layout:
        layout = layout | {"strategy": mirrored(layout["strategy"])}
    (metrics,) = Run(transform=compare, split=split, **layout).run(7)
    assert metrics.first_bad_step == -1
