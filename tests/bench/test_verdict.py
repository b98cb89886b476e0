"""The verdict names what bounds a run, whichever stage it is."""

import re
from pathlib import Path

import pytest

from fastcifar.bench import verdict
from fastcifar.bench.record import Estimate
from fastcifar.bench.verdict import judge

ROOT = Path(__file__).parents[2]
BALANCED = {
    "order": 1.0,
    "transfer": 1.0,
    "dispatch": 1.0,
    "resize": 1.0,
    "augment": 1.0,
    "forward": 10.0,
    "backward": 20.0,
    "reduce": 1.0,
    "update": 5.0,
    "step": 40.0,
    "end_to_end": 40.0,
}
KEEPS_UP = Estimate(0.99, 0.96, 1.02, 20)
HOLDS_BACK = Estimate(0.5, 0.48, 0.52, 20)


@pytest.mark.parametrize(
    ("slow", "said"),
    [
        ("dispatch", "--steps-per-call"),
        ("resize", "--image-size"),
        ("augment", "--augment"),
        ("forward", "(compute)"),
        ("backward", "--precision auto"),
        ("reduce", "--global-batch-size"),
        ("update", "optimizer's update"),
    ],
)
def test_on_the_device(slow, said):
    found = judge(BALANCED | {slow: 100.0, "step": 150.0, "end_to_end": 150.0}, KEEPS_UP)
    assert found.stage == ("compute" if slow in ("forward", "backward") else slow)
    text = found.text
    assert text.startswith("Bound by the device")
    assert said in text
    assert "efficiency 0.99" in text


@pytest.mark.parametrize(
    ("slow", "on_host", "said"),
    [
        ("read", (), "--memory-budget"),
        ("decode", (), "--cache memory"),
        ("order", (), "--parallel-map"),
        ("transfer", (), "--transfer uint8"),
        ("augment", ("augment",), "--augment-on device"),
        ("resize", ("resize",), "--resize-on device"),
    ],
)
def test_on_the_host(slow, on_host, said):
    times = BALANCED | {slow: 80.0, "end_to_end": 80.0}
    found = judge(times, HOLDS_BACK, on_host=frozenset(on_host))
    assert found.stage == slow
    text = found.text
    assert text.startswith("Bound by the input")
    assert said in text
    assert f"({slow}, 80.0 µs an image)" in text
    assert "2.00 times as much" in text


def test_a_lower_precision_is_advised_only_where_it_is_not_in_use():
    times = BALANCED | {"backward": 100.0}
    assert "--precision" in judge(times, KEEPS_UP, precision="float32").text
    assert "--precision" not in judge(times, KEEPS_UP, precision="mixed_bfloat16").text


def test_an_interval_on_both_sides_of_the_bound_cannot_tell():
    found = judge(BALANCED, Estimate(0.9, 0.8, 1.01, 3))
    assert found.stage == "cannot tell"
    assert found.text.startswith("Cannot tell whether the input keeps up")
    assert "0.90 [0.80, 1.01]" in found.text
    assert "(compute) is 75% of a step" in found.text


def test_the_documentation_has_a_cure_for_every_verdict():
    text = (ROOT / "docs" / "bottlenecks.md").read_text(encoding="utf-8")
    for stages in (verdict._HOST, verdict._DEVICE):
        for stage, (_, cure) in stages.items():
            assert f"(`{stage}`" in text or f"`{stage}`)" in text, stage
            for flag in re.findall(r"--[a-z-]+", cure):
                assert flag in text, f"{stage}: {flag}"
