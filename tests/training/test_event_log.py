"""The event file holds what TensorBoard reads."""

from __future__ import annotations

import math

import pytest
import tensorflow as tf

from fastcifar.errors import RunDirError
from fastcifar.training.event_log import EventLog


def scalars(folder) -> list[tuple[int, str, float]]:
    """Read an event folder back: (step, tag, value), in the order in which they were written."""
    found = []
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


def test_floats_are_written_at_their_steps(tmp_path):
    log = EventLog(tmp_path / "tensorboard")
    log.write(1, {"loss": 2.5, "accuracy": 0.25})
    log.write(2, {"loss": 1.5})
    assert scalars(tmp_path / "tensorboard") == [
        (1, "loss", 2.5),
        (1, "accuracy", 0.25),
        (2, "loss", 1.5),
    ]


def test_what_is_not_a_float_is_left_out(tmp_path):
    EventLog(tmp_path).write(
        3, {"epoch": 3, "phase": "train", "validation_loss": None, "loss": 0.5}
    )
    assert scalars(tmp_path) == [(3, "loss", 0.5)]


def test_not_a_number_is_written_as_such(tmp_path):
    EventLog(tmp_path).write(1, {"loss": math.nan})
    ((_, _, value),) = scalars(tmp_path)
    assert math.isnan(value)


def test_each_write_is_on_disk_at_once(tmp_path):
    log = EventLog(tmp_path)
    for step in range(1, 4):
        log.write(step, {"loss": 1.0})
        assert len(scalars(tmp_path)) == step


def test_nothing_is_opened_before_the_first_write(tmp_path):
    EventLog(tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_adds_a_file(tmp_path):
    EventLog(tmp_path).write(1, {"loss": 2.0})
    EventLog(tmp_path).write(2, {"loss": 1.0})
    assert sorted(scalars(tmp_path)) == [(1, "loss", 2.0), (2, "loss", 1.0)]


def test_a_disk_that_refuses_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError) as caught:
        EventLog(tmp_path / "file" / "tensorboard").write(1, {"loss": 1.0})
    message = str(caught.value)
    assert message == (
        f"{tmp_path}/file/tensorboard cannot be written: {tmp_path}/file is not a directory. "
        "Free space there, or choose another place"
    )
