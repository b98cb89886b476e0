"""FLOPs of networks whose figures can be worked out by hand or are published."""

import itertools
from types import SimpleNamespace

import keras
import pytest

from fastcifar.bench import compute
from fastcifar.bench.compute import forward_flops, measure_peak
from fastcifar.models.resnet import build_resnet


def test_a_convolution_and_a_dense_layer_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="valid")(inputs)  # [3, 3, 5]
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    assert forward_flops(model, (8, 8, 3)) == 2 * (3 * 3 * 5 * 3 * 3 * 3 + 45 * 7)


def test_resnet50_at_224_pixels_is_as_published():
    # He et al., 2015, table 1: 3.8e9 multiply-adds with the stride in the first 1x1 convolution.
    flops = forward_flops(build_resnet(depth=50, num_classes=1000), (224, 224, 3))
    assert flops / 2 == pytest.approx(3.8e9, rel=0.03)


def test_bfloat16_asks_for_as_many():
    models = [build_resnet(depth=14, width=4, dtype=d) for d in ("float32", "mixed_bfloat16")]
    assert len({forward_flops(model, (32, 32, 3)) for model in models}) == 1


def test_peaks_are_what_is_computed_and_moved_over_the_time(monkeypatch):
    """By a clock that stands a second further whenever it is read."""
    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr(compute, "time", clock)
    peak = measure_peak("float32", on_gpu=False, size=128)
    assert peak.flops_per_s == 2 * 128**3
    # A sum in place reads two arrays and writes one of them, as an update does.
    assert peak.bytes_per_s == 3 * 4 * 16 * 128**2
