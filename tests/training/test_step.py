"""The train step in every layout that one process can hold."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.config import OptimizerConfig
from fastcifar.data.ordering import epoch_order
from fastcifar.models.losses import cross_entropy
from tests.training.tiny import BATCH, SEED, Run, mirrored, tiny_model, tiny_split


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def reference(steps, replicas, rate=0.1, momentum=0.9, weight_decay=5e-4):
    """The same training in a dozen plain lines: a loop over slices, SGD-Nesterov in NumPy."""
    model, split = tiny_model("float64"), tiny_split()
    velocity = [np.zeros(v.shape) for v in model.trainable_variables]
    losses = []
    order = epoch_order(seed=SEED, epoch=0, examples=len(split))
    for step in range(steps):
        indices = order[step * BATCH : (step + 1) * BATCH]
        gradients, statistics, total = 0, 0, 0.0
        before = [v.numpy() for v in model.non_trainable_variables]
        for part in np.split(indices, replicas):
            for variable, value in zip(model.non_trainable_variables, before, strict=True):
                variable.assign(value)
            with tf.GradientTape() as tape:
                logits = model(split.images[part] / 255, training=True)
                loss = tf.reduce_sum(cross_entropy(logits, tf.constant(split.labels[part])))
            found = tape.gradient(loss, [v.value for v in model.trainable_variables])
            gradients = gradients + np.array([g.numpy() / BATCH for g in found], object)
            values = [v.numpy() / replicas for v in model.non_trainable_variables]
            statistics = statistics + np.array(values, object)
            total += float(loss)
        for i, variable in enumerate(model.trainable_variables):
            gradient = gradients[i]
            if variable.path.endswith("kernel"):
                gradient = gradient + weight_decay * variable.numpy()
            velocity[i] = momentum * velocity[i] - rate * gradient
            variable.assign_add(momentum * velocity[i] - rate * gradient)
        for variable, value in zip(model.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        losses.append(total)
    return losses, [v.numpy() for v in model.variables]


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_equals_a_plain_loop_in_float64(replicas, xla):
    strategy = mirrored() if replicas == 2 else None
    run = Run(strategy=strategy, dtype="float64", xla=xla)
    losses, weights = reference(5, replicas)
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


@pytest.mark.parametrize("replicas", [1, 2])
def test_images_on_the_device_give_the_same_bits(replicas):
    host, device = (
        Run(strategy=mirrored() if replicas == 2 else None, cache=cache)
        for cache in ("memory", "device")
    )
    host.run(4)
    device.run(4)
    assert_same_bits(host.arrays(), device.arrays())


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("xla", [False, True])
def test_replicas_stay_equal(dtype, xla):
    run = Run(strategy=mirrored(), dtype=dtype, xla=xla)
    run.run(1, 2)
    for name, variable in run.state.variables():
        first, second = (v.numpy() for v in run.strategy.experimental_local_results(variable))
        np.testing.assert_array_equal(first, second, err_msg=name)
        assert np.isfinite(first).all()
    moved = dict(run.state.variables())["model/bn/moving_mean"].numpy()
    assert np.abs(moved).max() > 0


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_an_overflow_is_skipped_and_halves_the_scale(replicas, xla):
    strategy = mirrored() if replicas == 2 else None

    def overflow_once(images, labels, seed, positions):
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
    assert after["loss_scale"] == scale / 2
    assert after["updates"] == 1
    for name, value in before.items():
        if name not in ("loss_scale", "good_steps"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
    (third,) = run.run(1)
    assert third.skipped == 0
    assert run.state.updates.numpy() == 2
    assert all(np.isfinite(value).all() for value in run.arrays().values())


def test_first_bad_step_is_told():
    def poison(images, labels, seed, positions):
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
    def soften(images, labels, seed, positions):
        soft = tf.one_hot(labels, 3) * 0.5 + tf.one_hot((labels + 1) % 3, 3) * 0.5
        return tf.cast(images, tf.float32) / 255, soft

    (metrics,) = Run(transform=soften).run(1)
    assert metrics.loss / metrics.images >= np.log(2)


def test_the_seed_tells_run_and_epoch():
    def leak(images, labels, seed, positions):
        """Turn (seed, epoch) into a loss that tells them: NaN unless they are as expected."""
        right = tf.equal(seed[0], SEED) & (seed[1] >= 0) & (seed[1] <= 1)
        factor = tf.where(right, 1.0, np.nan)
        return tf.cast(images, tf.float32) / 255 * tf.cast(factor, tf.float32), labels

    assert all(m.first_bad_step == -1 for m in Run(transform=leak).run(6, 6))
