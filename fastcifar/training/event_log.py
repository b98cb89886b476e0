"""Scalars for TensorBoard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from fastcifar.errors import RunDirError


class EventLog:
    """An event file that TensorBoard reads.

    `tf.summary.scalar` needs the tensorboard package, which TensorFlow no longer brings along; the
    raw protocol buffer does not.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None

    def write(self, step: int, scalars: dict[str, Any]) -> None:
        """Write the floats among `scalars` at `step`, and flush.

        Raises:
            RunDirError: if the disk refuses.
        """
        values = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in scalars.items()
            if isinstance(value, float)
        ]
        try:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._folder))
            with self._writer.as_default(step=step):  # flushes at its end
                summary = tf.compat.v1.Summary(value=values)
                tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        except tf.errors.OpError as error:
            # Without the names of TensorFlow's operations, which stand around the reason.
            reason = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message)
            raise RunDirError(
                f"{self._folder} cannot be written: {reason}. "
                "Free space there, or choose another place"
            ) from error
