"""Learning rates against values worked out by hand, and what holds for every schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar.config import PhaseConfig
from fastcifar.training.schedules import growing_sizes, learning_rates


def test_constant():
    rates = learning_rates(PhaseConfig(epochs=2, learning_rate=0.5, schedule="constant"), 3)
    np.testing.assert_array_equal(rates, np.full(6, 0.5, np.float32))
    assert rates.dtype == np.float32


def test_constant_after_a_warm_up():
    phase = PhaseConfig(epochs=2, learning_rate=1.0, schedule="constant", warmup_epochs=1.0)
    np.testing.assert_allclose(learning_rates(phase, 3), [1 / 3, 2 / 3, 1, 1, 1, 1])


def test_cosine():
    rates = learning_rates(PhaseConfig(epochs=4, learning_rate=2.0, schedule="cosine"), 1)
    np.testing.assert_allclose(rates, 1 + np.cos(np.pi * np.array([0, 1, 2, 3]) / 4), rtol=1e-6)


def test_cosine_after_a_warm_up():
    phase = PhaseConfig(epochs=6, learning_rate=1.0, schedule="cosine", warmup_epochs=2.0)
    falling = [(1 + np.cos(np.pi * i / 4)) / 2 for i in range(4)]
    np.testing.assert_allclose(learning_rates(phase, 1), [1 / 2, 1, *falling], rtol=1e-6)


def test_one_cycle():
    rates = learning_rates(PhaseConfig(epochs=10, learning_rate=1.0, schedule="one_cycle"), 1)
    rising = [1 / 3, 2 / 3, 1]
    falling = [i / 7 for i in (7, 6, 5, 4, 3, 2, 1)]
    np.testing.assert_allclose(rates, rising + falling, rtol=1e-6)


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(10, 10), (30, 97), (5, 391)])
def test_one_cycle_has_its_peak_at_30_percent(epochs, steps_per_epoch):
    phase = PhaseConfig(epochs=epochs, learning_rate=0.4, schedule="one_cycle")
    rates = learning_rates(phase, steps_per_epoch)
    # The last step of the way up, and the first of the way down.
    up = round(0.3 * len(rates))
    assert rates.max() == np.float32(0.4)
    assert np.flatnonzero(rates == rates.max()).tolist() == [up - 1, up]


def test_one_cycle_takes_a_warm_up_that_is_given():
    phase = PhaseConfig(epochs=10, schedule="one_cycle", warmup_epochs=5.0)
    assert learning_rates(phase, 8).argmax() == 39


def test_a_warm_up_may_be_part_of_an_epoch():
    phase = PhaseConfig(epochs=1, learning_rate=1.0, schedule="constant", warmup_epochs=0.5)
    np.testing.assert_allclose(learning_rates(phase, 4), [1 / 2, 1, 1, 1])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup_steps", [1, 3, 7, 20])
def test_a_warm_up_is_the_plain_line_and_then_the_schedule_without_it(schedule, warmup_steps):
    """Goyal et al.: equal increments that end at the rate after W steps."""
    options = {"learning_rate": 0.3, "schedule": schedule}
    phase = PhaseConfig(epochs=2, warmup_epochs=warmup_steps / 10, **options)
    rates = learning_rates(phase, 10)
    assert rates[warmup_steps - 1] == np.float32(0.3)
    line = np.linspace(0, 0.3, warmup_steps + 1)[1:]
    np.testing.assert_allclose(rates[:warmup_steps], line, rtol=1e-6)
    rest = 20 - warmup_steps
    if rest and schedule != "one_cycle":  # which always has a warm-up of its own
        plain = learning_rates(PhaseConfig(epochs=rest, **options), 1)
        np.testing.assert_array_equal(rates[warmup_steps:], plain)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_warm_up_may_last_the_whole_phase(schedule):
    phase = PhaseConfig(epochs=1, learning_rate=1.0, schedule=schedule, warmup_epochs=1.0)
    np.testing.assert_allclose(learning_rates(phase, 4), [1 / 4, 2 / 4, 3 / 4, 1])


@st.composite
def phases(draw):
    epochs = draw(st.integers(1, 12))
    return PhaseConfig(
        epochs=epochs,
        learning_rate=draw(st.floats(1e-6, 100.0)),
        schedule=draw(st.sampled_from(["constant", "cosine", "one_cycle"])),
        warmup_epochs=draw(st.floats(0, epochs)),
    )


@given(phases(), st.integers(1, 50))
def test_every_schedule(phase, steps_per_epoch):
    rates = learning_rates(phase, steps_per_epoch)
    assert rates.dtype == np.float32
    assert rates.shape == (phase.epochs * steps_per_epoch,)
    assert (rates > 0).all()  # no step is spent on nothing, the first and the last included
    assert (rates <= np.float32(phase.learning_rate)).all()
    # One hill: it never falls before its top and never rises after it.
    top = rates.argmax()
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()


@pytest.mark.parametrize(
    ("start", "end", "epochs", "expected"),
    [
        (None, 32, 5, [(32, 5)]),
        (128, 224, 8, [(128, 2), (160, 2), (192, 2), (224, 2)]),
        (128, 224, 10, [(128, 2), (160, 2), (192, 3), (224, 3)]),
        (128, 224, 1, [(224, 1)]),
        (128, 224, 2, [(128, 1), (224, 1)]),
        (24, 32, 9, [(24, 4), (32, 5)]),
        (32, 32, 3, [(32, 3)]),
    ],
)
def test_growing_sizes(start, end, epochs, expected):
    phase = PhaseConfig(epochs=epochs, image_size=end, start_image_size=start)
    assert growing_sizes(phase) == expected
