"""What two loss curves say about each other."""

import pytest

from fastcifar.bench.learning import compare
from fastcifar.bench.record import Estimate

RATIO = Estimate(1.4, 1.3, 1.5, 6)
REFERENCE = [3.0, 2.5, 2.2, 2.0, 1.9, 1.8, 1.7, 1.6]


def shifted(*by):
    return [loss + d for loss, d in zip(REFERENCE, by, strict=True)]


CONTROL = compare(shifted(0, 0, 0, 0.01, -0.02, 0, 0.01, 0), REFERENCE)


def test_the_largest_deviation_and_the_end():
    found = compare(shifted(0, 0, 0.3, 0, 0, -0.1, 0.1, 0.2), REFERENCE)
    assert found.largest_deviation == pytest.approx(0.3)
    assert found.at_step == 2
    assert found.end_difference == pytest.approx(0.15)
    assert found.end == pytest.approx(1.65)


def test_the_shorter_curve_decides():
    found = compare([3.0, 2.6], REFERENCE)
    assert found.losses == [3.0, 2.6]
    assert found.end == 2.5


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ((0, 0, 0, 0, 0.03, 0, 0, 0), "no more than rounding does to float32"),
        ((0, 0, 0.1, 0, 0.0, 0, 0.02, 0.01), "over these steps it learns as well"),
        ((0, 0, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2), "its loss is 0.200 higher than 1.650"),
        ((0, 0, 0.1, 0.1, 0.2, 0, -0.2, -0.2), "its loss is 0.200 lower than 1.650"),
    ],
)
def test_verdicts(by, said):
    words = compare(shifted(*by), REFERENCE).judge("bf16", RATIO, CONTROL)
    assert words.startswith("bf16: 1.40 [1.30, 1.50] × float32. Over 8 steps")
    assert said in words


def test_a_loss_that_is_not_finite():
    found = compare([3.0, None, None], REFERENCE)
    assert found.largest_deviation is None
    assert "stopped being finite at step 1 of 3" in found.judge("fp16", RATIO, CONTROL)


def test_without_a_control_the_deviation_stands_alone():
    words = compare(REFERENCE, REFERENCE).judge("bf16", RATIO, None)
    assert words.endswith("strays by at most 0 from float32's (step 0).")
