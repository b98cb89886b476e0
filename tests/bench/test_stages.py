"""A stage slowed by a known time shows up as that stage, with that time, and in the verdict."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.bench import measure as measuring
from fastcifar.bench import prefixes, stages, stand_ins
from fastcifar.bench.arithmetic import Arithmetic
from fastcifar.bench.measure import Lap
from fastcifar.bench.stage_names import DEVICE, STAGES
from fastcifar.bench.stages import Layout, StagesPlan, measure_stages
from fastcifar.bench.subject import Subject
from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.data import ordering
from fastcifar.models.batch_norm import BatchNormalization
from fastcifar.training import phase as phases
from fastcifar.training import step as step_module
from fastcifar.training.optimizers import Optimizer
from tests.bench.handles import SettledClock
from tests.bench.subjects import BATCH, CONFIG, Rows, prepared

pytestmark = pytest.mark.usefixtures("tiny_network", "short_pieces")

# What a slow stage takes on a clock that only such work moves: however busy the machine is.
SLEEP_S = 0.04
SLEEP_US = SLEEP_S * 1e6 / BATCH
PLAN = StagesPlan(seconds=1e9, rounds=5, peak_seconds=0.01)
CLOCK = SettledClock()


def slow(*values):
    """Values of a test's parameters that only the slow tests try."""
    return pytest.param(*values, marks=pytest.mark.slow)


def sleeping(value, seconds=SLEEP_S):
    """`value`, so many seconds later by `CLOCK`, each time the graph computes it."""

    def sleep(given):
        CLOCK.work(seconds)
        return given

    slow = tf.py_function(sleep, [value], value.dtype)
    slow.set_shape(value.shape)
    return slow


def slow_transform(monkeypatch, policy_is_slow):
    """Let `transforms.make` sleep in the transforms of policies of which `policy_is_slow`."""
    make = phases.transforms.make

    def slow_make(data, model, phase, **arguments):
        made = make(data, model, phase, **arguments)
        if not policy_is_slow(phase.augment):
            return made

        def on_device(images, labels, seed, positions, indices):
            return made.on_device(sleeping(images), labels, seed, positions, indices)

        return dataclasses.replace(made, on_device=on_device)

    monkeypatch.setattr(phases.transforms, "make", slow_make)


def slow_order(monkeypatch):
    permute = ordering.permute
    monkeypatch.setattr(
        ordering, "permute", lambda positions, **rest: permute(sleeping(positions), **rest)
    )


def slow_decoding(monkeypatch):
    decode = tf.io.decode_png
    slow_png = functools.partial(sleeping, seconds=SLEEP_S / BATCH)  # one image after the other
    monkeypatch.setattr(tf.io, "decode_png", lambda png, **rest: slow_png(decode(png, **rest)))


def slow_augment(monkeypatch):
    slow_transform(monkeypatch, lambda policy: policy != "none")


def slow_resize(monkeypatch):
    slow_transform(monkeypatch, lambda policy: True)


def slow_update(monkeypatch):
    apply = Optimizer.apply

    def slow_apply(self, parameters, slots, gradients, **rest):
        if gradients:  # a prefix without a backward pass has none
            gradients = [sleeping(gradients[0]), *gradients[1:]]
        apply(self, parameters, slots, gradients, **rest)

    monkeypatch.setattr(Optimizer, "apply", slow_apply)


@tf.custom_gradient
def sleeping_forward(value):
    return sleeping(value), lambda gradient: gradient


@tf.custom_gradient
def sleeping_backward(value):
    return tf.identity(value), sleeping


def slow_network(monkeypatch, slow):
    call = BatchNormalization.call

    # Keras looks at the names of the arguments: without this one, it would not tell of training.
    def slow_call(self, x, training=None):
        return call(self, slow(x), training=training)

    monkeypatch.setattr(BatchNormalization, "call", slow_call)


def slow_forward(monkeypatch):
    slow_network(monkeypatch, sleeping_forward)


def slow_backward(monkeypatch):
    slow_network(monkeypatch, sleeping_backward)


def measure(monkeypatch, slow=None, config=CONFIG, rounds=PLAN.rounds):
    if slow is not None:
        slow(monkeypatch)
        on_clock = functools.partial(measuring.interleave, clock=CLOCK)
        monkeypatch.setattr(measuring, "interleave", on_clock)
    config, parts = prepared(config, augment="flip-crop")
    rows = Rows()
    measure_stages(config, parts, dataclasses.replace(PLAN, rounds=rounds), rows)
    return rows


@pytest.mark.parametrize(
    ("stage", "stage_is_slow", "said"),
    [
        ("order", slow_order, "Bound by the input"),
        slow("augment", slow_augment, "augmentation on the device (augment)"),
        ("backward", slow_backward, "forward and backward pass (compute)"),
        slow("resize", slow_resize, "resizing on the device (resize)"),
        slow("forward", slow_forward, "forward and backward pass (compute)"),
        slow("update", slow_update, "the optimizer's update (update)"),
    ],
)
def test_a_slow_stage_is_found_with_its_size_and_named(monkeypatch, stage, stage_is_slow, said):
    rows = measure(monkeypatch, stage_is_slow)
    assert {row.error for row in rows.values()} == {None}
    took = {name: row.figures["us_per_image"] for name, row in rows.items() if row.figures}
    # Beside it a piece takes the millisecond of its clock, spread over its batches.
    assert took[stage] == pytest.approx(SLEEP_US, rel=0.05)
    for other in {"order", "resize", "augment", "forward", "backward", "update"} - {stage}:
        assert took[other] < 0.05 * took[stage]
    assert said in rows["end_to_end"].figures["verdict"]
    if stage == "order":
        assert "(order, " in rows["end_to_end"].figures["verdict"]
        assert rows["end_to_end"].ratios["step"].high < 0.5


def test_rows_are_the_stages_in_order(monkeypatch):
    rows = measure(monkeypatch)
    assert tuple(rows) == STAGES
    assert {row.error for row in rows.values()} == {None}
    assert rows["transfer"].check.startswith("not applicable: a CPU")
    assert rows["reduce"].check == "not applicable: one replica"
    assert rows["read"].check == "not applicable: its images are drawn, not read"
    assert rows["end_to_end"].figures["peak_host_bytes"] > 1e8
    assert rows["step"].figures["peak_flops_per_s"] > 0


# Prefix -> µs an image, which rounds multiply: noise that all contenders of a round share.
TIMES = {
    "order": 2,
    "dispatch": 1,
    "resize": 3,
    "augment": 6,
    "forward": 106,
    "backward": 306,
    "step": 326,
    "end_to_end": 330,
}
ROUNDS = [1.0, 1.1, 0.9]
DEVICE_GIVES = Arithmetic(
    forward_flops=1e6,
    forward_bytes=1e4,
    update_bytes=2e4,
    peak_flops_per_s=1e11,
    peak_bytes_per_s=1e10,
)


def rows_of(times=TIMES, layout=None, device=DEVICE_GIVES, **broken):
    laps = {name: Lap(name, [us * r / 1e6 for r in ROUNDS], 1.5) for name, us in times.items()}
    for name in ("read", "decode", "cache", "transfer"):
        laps.setdefault(name, Lap(name, check="not applicable: no"))
    laps |= broken
    return {row.name: row for row in stages.rows(laps, layout or Layout(), device)}


def test_stages_are_differences_of_prefixes():
    rows = rows_of()
    us = {name: row.figures["us_per_image"] for name, row in rows.items() if row.figures}
    assert us == pytest.approx(
        TIMES | {"resize": 2, "augment": 3, "forward": 100, "backward": 200, "update": 20}
    )
    assert rows["backward"].images_per_s.median == pytest.approx(5000)
    assert rows["backward"].images_per_s.n == 3
    assert rows["update"].figures["share_of_step"] == pytest.approx(20 / 326)
    assert rows["end_to_end"].ratios["step"].median == pytest.approx(326 / 330)


def test_flops_are_those_of_the_pass():
    rows = rows_of()
    assert rows["forward"].figures["flops_per_s"] == pytest.approx(1e6 / 100e-6)
    assert rows["backward"].figures["flops_per_s"] == pytest.approx(2e6 / 200e-6)
    assert rows["step"].figures["flops_per_s"] == pytest.approx(3e6 / 326e-6)
    assert rows["forward"].figures["utilisation"] == pytest.approx(0.1)
    assert rows["forward"].figures["intensity"] == pytest.approx(100)


def test_an_update_is_held_against_memory():
    figures = rows_of()["update"].figures
    assert figures["bytes_per_s"] == pytest.approx(2e4 / 20e-6)
    assert figures["bandwidth_share"] == pytest.approx(0.1)
    assert "flops_per_s" not in figures


def test_a_frozen_network_has_no_backward_pass_to_count():
    rows = rows_of(device=dataclasses.replace(DEVICE_GIVES, trains_all=False))
    assert "utilisation" in rows["forward"].figures
    assert "utilisation" not in rows["backward"].figures
    assert "utilisation" not in rows["step"].figures


def test_the_reduction_is_what_several_replicas_add():
    rows = rows_of(TIMES | {"reduce": 310}, Layout(replicas=2))
    assert rows["reduce"].figures["us_per_image"] == pytest.approx(4)
    assert rows["update"].figures["us_per_image"] == pytest.approx(16)


@pytest.mark.parametrize("stage", ["read", "decode"])
def test_what_is_paid_in_every_step_is_told_apart_from_order(stage):
    once = {"read": 5, "decode": 55, "cache": 60}
    times = TIMES | once | {"images": 502, "end_to_end": 650}
    rows = rows_of(times, Layout(each_step=stage))
    assert rows[stage].figures["us_per_image"] == pytest.approx(500)
    assert rows[stage].figures["paid"] == "each step"
    assert rows["cache"].figures["paid"] == "once a run"
    assert rows["order"].figures["us_per_image"] == pytest.approx(2)
    verdict = rows["end_to_end"].figures["verdict"]
    assert verdict.startswith("Bound by the input")
    assert f"({stage}, 500.0 µs an image)" in verdict


def test_what_is_paid_once_a_run_is_not_blamed():
    rows = rows_of(TIMES | {"read": 900, "decode": 1900, "cache": 1950, "end_to_end": 650})
    assert "(order, " in rows["end_to_end"].figures["verdict"]


def test_a_stage_that_is_lost_in_the_noise_has_no_rate():
    row = rows_of(TIMES | {"augment": 2.9})["augment"]
    assert row.images_per_s is None
    assert row.check == "ok"
    assert row.figures["us_per_image"] == pytest.approx(-0.1)


def test_a_prefix_that_fails_takes_the_stages_with_it_that_need_it():
    rows = rows_of(backward=Lap("backward", error="OOM: no"))
    assert rows["backward"].error == rows["update"].error == "OOM: no"
    assert rows["update"].images_per_s is None
    assert rows["forward"].images_per_s is not None
    assert "verdict" in rows["end_to_end"].figures


@pytest.mark.parametrize(
    "host", [{"augment_on": "host", "resize_on": "host"}, slow({"resize_on": "host"})]
)
def test_what_the_host_does_is_measured_there(monkeypatch, host):
    data = dataclasses.replace(CONFIG.data, **host)
    rows = measure(monkeypatch, config=dataclasses.replace(CONFIG, data=data))
    assert {row.error for row in rows.values()} == {None}
    stage = "augment" if "augment_on" in host else "resize"
    assert rows[stage].figures["where"] == "host"


@pytest.mark.parametrize(
    ("name", "moves"),
    [("dispatch", 0), ("resize", 0), ("augment", 0), ("forward", 2), ("backward", 2), ("step", 5)],
)
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_prefix_stops_where_it_says(name, moves, precision):
    """A forward pass moves the BatchNorm statistics, a whole step the parameters as well."""
    config = dataclasses.replace(CONFIG, runtime=RuntimeConfig(precision))
    config = dataclasses.replace(config, optimizer=OptimizerConfig(weight_decay=0.0))
    config, parts = prepared(config)
    subject = Subject.of(config, parts)
    before = [v.numpy() for v in parts.model.variables]
    driver = prefixes.build(subject, name)
    driver.run()
    moved = sum(
        not np.array_equal(old, v.numpy())
        for old, v in zip(before, parts.model.variables, strict=True)
    )
    # conv kernel, gamma, beta, two statistics, dense kernel and bias
    assert moved == {0: 0, 2: 2, 5: 7}[moves]
    assert np.isfinite(driver.mean_loss)


def test_the_forward_prefix_has_the_loss_of_the_step():
    config, parts = prepared()
    subject = Subject.of(config, parts)
    forward = prefixes.build(subject, "forward")
    forward.run()
    whole = prefixes.build(subject, "step")
    whole.run()
    assert forward.mean_loss == pytest.approx(whole.mean_loss, rel=1e-6)


def two_replicas(**runtime):
    """The smallest recipe on two logical devices."""
    chosen = RuntimeConfig("float32", strategy="mirrored", logical_devices=2, **runtime)
    return dataclasses.replace(CONFIG, runtime=chosen)


def slow_reduction(monkeypatch):
    add_up = prefixes.add_up
    real = step_module.TrainStep.__init__

    def slow_add_up(context, vectors):
        return add_up(context, [sleeping(vector) for vector in vectors])

    def init(self, **arguments):
        if arguments["reduce"] is add_up:
            arguments["reduce"] = slow_add_up
        real(self, **arguments)

    monkeypatch.setattr(step_module.TrainStep, "__init__", init)


@pytest.mark.parametrize(
    ("stage", "stage_is_slow", "said"),
    [
        ("reduce", slow_reduction, "reduction of gradients between replicas (reduce)"),
        ("backward", slow_backward, "forward and backward pass (compute)"),
        ("update", slow_update, "the optimizer's update (update)"),
    ],
)
@pytest.mark.slow
def test_a_slow_stage_of_several_replicas_is_found_and_named(
    monkeypatch, stage, stage_is_slow, said
):
    rows = measure(monkeypatch, stage_is_slow, config=two_replicas(), rounds=3)
    assert {row.error for row in rows.values()} == {None}
    assert rows["reduce"].check == "ok"
    took = {name: row.figures["us_per_image"] for name, row in rows.items() if row.figures}
    # Replicas sleep at the same time, or where Python holds them one after the other.
    assert 0.7 * SLEEP_US <= took[stage] <= 4 * SLEEP_US
    for other in {"forward", "backward", "reduce", "update"} - {stage}:
        assert took[other] < 0.5 * took[stage]
    assert said in rows["end_to_end"].figures["verdict"]


@pytest.mark.parametrize(
    ("reduce_dtype", "xla", "names"),
    [
        slow("float32", "off", prefixes.names(2)),
        # Those that have variables; all would take a minute to compile for two replicas.
        ("bfloat16", "on", ["forward", "reduce"]),
        slow("float32", "on", prefixes.names(2)),
        slow("bfloat16", "off", prefixes.names(2)),
    ],
)
def test_every_prefix_runs_on_several_replicas(xla, reduce_dtype, names):
    config, parts = prepared(two_replicas(xla=xla, reduce_dtype=reduce_dtype))
    subject = Subject.of(config, parts)
    assert set(prefixes.names(2)) == {*DEVICE, "step"} - {"update"}
    for name in names:
        driver = prefixes.build(subject, name)
        driver.run()
        assert np.isfinite(driver.mean_loss), name


def test_only_the_stages_that_are_asked_for_are_measured(monkeypatch):
    config, parts = prepared()
    plan = dataclasses.replace(PLAN, stages=("update", "step"), rounds=2)
    subject = Subject.of(config, parts)
    found = stages.contenders(subject, Layout.of(subject), plan.stages)
    assert [contender.name for contender in found] == ["backward", "step"]
    rows = Rows()
    measure_stages(config, parts, plan, rows)
    assert list(rows) == ["update", "step"]
    assert rows["step"].images_per_s is not None
    assert "verdict" not in rows["step"].figures


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        ({"cache": "none"}, "decode"),
        slow({"cache": "disk"}, "read"),
        slow({"cache": "memory"}, None),
        slow({"cache": "none", "order": "shuffle_buffer"}, None),
    ],
)
def test_images_that_are_not_kept_decoded_cost_every_step(monkeypatch, tmp_path, data, stage):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))
    data = dataclasses.replace(CONFIG.data, **data)
    rows = measure(
        monkeypatch,
        slow_decoding if stage == "decode" else None,
        dataclasses.replace(CONFIG, data=data),
    )
    assert {row.error for row in rows.values()} == {None}
    each_step = [name for name, row in rows.items() if row.figures.get("paid") == "each step"]
    assert [name for name in ("read", "decode") if name in each_step] == ([stage] if stage else [])
    if stage == "decode":
        assert rows["decode"].figures["us_per_image"] == pytest.approx(SLEEP_US, rel=0.05)
        assert "(decode, " in rows["end_to_end"].figures["verdict"]


def test_the_backward_prefix_computes_every_gradient(monkeypatch):
    parts, real = [], stand_ins.without_update

    def without_update(*given):
        made, part = real(*given)
        parts.append(part)
        return made, part

    subject = Subject.of(*prepared())
    monkeypatch.setitem(prefixes._TAKEN_OUT, "backward", without_update)
    prefixes.build(subject, "backward").run()
    (taken,) = parts[0].slots["taken"]
    assert abs(taken.numpy()) > 1e-6
    gradients = [tf.constant([1.0, 2.0]), tf.constant([[3.0]], tf.float16)]
    stand_ins.TakesGradients().apply([], {"taken": [taken]}, gradients)
    assert taken.numpy() == 4.0
