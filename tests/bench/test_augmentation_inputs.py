"""The same augmentation in two places, and the floor of both."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar import runtime
from fastcifar.bench.augmentation import inputs, references
from fastcifar.bench.augmentation.inputs import InputPlan, measure_input
from fastcifar.config import RuntimeConfig
from tests.bench.subjects import Rows

PLAN = InputPlan(
    source_size=8, image_size=12, global_batch_size=8, images=64, seconds=0.1, rounds=2
)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(inputs, "_PIECE_S", 0.01)
    monkeypatch.setattr(inputs, "_SETTLE_S", 0.0)


@pytest.mark.slow
def test_all_ways_with_their_ratios(short):
    rows = Rows()
    measure_input(PLAN, runtime.setup(RuntimeConfig(precision="mixed_bfloat16")), rows)
    assert list(rows) == [
        "input/map",
        "input/device_float32",
        "input/device_bfloat16",
        "input/xla_float32",
        "input/xla_bfloat16",
        "input/copy_float32",
        "input/copy_bfloat16",
    ]
    assert {row.check for row in rows.values()} == {"ok"}
    assert {row.error for row in rows.values()} == {None}
    ours = rows["input/device_bfloat16"]
    assert list(ours.ratios) == ["input/map", "input/copy_bfloat16"]
    assert rows["input/xla_bfloat16"].ratios.keys() == ours.ratios.keys()
    assert ours.figures["bytes_per_image"] == 12 * 12 * 3 * 2
    assert rows["input/map"].figures["bytes_per_image"] == 12 * 12 * 3 * 4


def test_the_usual_way_is_standard():
    images = references.sample()
    augment = inputs.usual(32)
    tf.random.set_seed(1)
    received = np.stack([augment(tf.constant(image)).numpy() for image in images])
    assert references.judge_standard(images, received, padding=4, side=8) == "ok"


def test_the_usual_way_resizes():
    received = inputs.usual(40)(tf.constant(references.sample()[0]))
    assert (received.dtype, received.shape) == (tf.float32, (40, 40, 3))


@pytest.mark.slow
def test_a_usual_way_that_does_something_else_shows_no_number(short, monkeypatch):
    right = inputs.usual
    monkeypatch.setattr(inputs, "usual", lambda size: lambda image: right(size)(image)[::-1])
    rows = Rows()
    measure_input(PLAN, runtime.setup(RuntimeConfig(precision="float32")), rows)
    assert rows["input/map"].check.startswith("failed: ")
    assert rows["input/map"].images_per_s is None
    assert list(rows["input/device_float32"].ratios) == ["input/copy_float32"]
