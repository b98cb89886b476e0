"""The check passes where the device computes, and fails where it does not."""

import math

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.bench.suite import check


def test_errors_are_relative():
    assert check.relative_error([3.0, 4.0], [3.0, 4.0]) == 0
    assert check.relative_error([0.0, 0.0], [3.0, 4.0]) == 1
    assert check.relative_error([1.0], [0.0]) > 1e20


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.5, "ok"),
        (1.0, "failed: relative error 1 is not below 1"),
        (math.nan, "failed: relative error nan is not below 1"),
    ],
)
def test_an_error_has_to_be_below_the_limit(error, said):
    row = check.judged("x", 1, lambda: error)
    assert row.check == said
    assert bool(row.figures) == (said == "ok")


def test_what_raises_is_a_row():
    def work():
        raise RuntimeError("no kernel image")

    assert check.judged("x", 1, work).error == "RuntimeError: no kernel image"


def test_this_device_computes():
    assert 0 < check.product("bfloat16", 128) < 1e-2
    assert check.product("float32", 128) < 1e-5
    assert 0 < check.convolution("bfloat16", "CPU:0") < 5e-2
    assert check.batch_norm("float32", "CPU:0") < 1e-6
    assert check.compiled() < 1e-5


def test_a_device_that_computes_something_else_is_found(monkeypatch):
    monkeypatch.setattr(tf, "matmul", lambda one, other: tf.transpose(other))
    assert check.product("float32", 64) > 0.5
    right = tf.nn.conv2d

    def mirrored(images, kernel, *rest):
        return right(images, kernel[::-1] if images.dtype == tf.bfloat16 else kernel, *rest)

    monkeypatch.setattr(tf.nn, "conv2d", mirrored)
    assert check.convolution("bfloat16", "CPU:0") > 0.5
    assert np.isfinite(check.convolution("float32", "CPU:0"))
