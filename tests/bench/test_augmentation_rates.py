"""Operations against other libraries' layers: right answers only, and whether they compile."""

import dataclasses
import functools
import re

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.augment.policies import get
from fastcifar.bench import measure
from fastcifar.bench.augmentation import names, rates
from fastcifar.bench.augmentation.rates import RatesPlan, measure_rates
from tests.bench.subjects import Rows
from tests.bench.test_measure import Clock

PLAN = RatesPlan(source_size=8, image_size=12, global_batch_size=8, seconds=0.1, rounds=2)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(rates, "_PIECE_S", 0.001)


def measured(*only, **changes):
    rows = Rows()
    measure_rates(dataclasses.replace(PLAN, only=only, **changes), rows)
    return rows


@pytest.mark.slow
def test_operations_and_policies_against_the_layers(short):
    rows = measured("Translate", "cutout")
    assert list(rows) == [
        f"{section}{compiled}/{name}/{whose}"
        for section, name in (("operations", "Translate"), ("policies", "cutout"))
        for compiled in ("", "_xla")
        for whose in ("fastcifar", "KerasCV", "Keras")
    ]
    ours, keras_cv, _, compiled, not_compiled, _ = list(rows.values())[:6]
    assert list(ours.ratios) == list(rows)[1:3]
    assert ours.images_per_s.n == 2
    assert keras_cv.images_per_s is not None
    assert keras_cv.ratios == {}
    assert list(compiled.ratios) == ["operations/Translate/fastcifar"]
    assert not_compiled.check == "not applicable: ImageProjectiveTransformV3 has no XLA kernel"
    keras = "policies_xla/cutout/Keras"
    assert "inside the image" in rows[keras].figures["differs"]
    assert keras in rows["policies_xla/cutout/fastcifar"].ratios


def test_a_layer_with_a_wrong_answer_shows_no_number(short):
    # Images enough for some to be drawn a factor that takes them out of range.
    rows = measured("Saturation", global_batch_size=64, source_size=16)
    wrong = rows["operations/Saturation/Keras"]
    assert wrong.check.startswith("failed: values must lie in 0..255. Received: -")
    assert wrong.images_per_s is None
    assert rows["operations_xla/Saturation/Keras"].images_per_s is None
    assert rows["operations/Saturation/fastcifar"].images_per_s is not None


def test_ours_with_a_wrong_answer_shows_no_number(short, monkeypatch):
    right = rates.our_function

    def mirrored(*arguments):
        def function(images, labels, *keys):
            return right(*arguments)(images, labels, *keys)[0][:, :, ::-1], labels

        return function

    monkeypatch.setattr(rates, "our_function", mirrored)
    rows = measured("Translate")
    assert "off the reference" in rows["operations/Translate/fastcifar"].check
    assert rows["operations/Translate/fastcifar"].ratios == {}
    assert rows["operations/Translate/Keras"].images_per_s is not None


def test_ratios_are_of_rates_on_the_same_clock(monkeypatch):
    clock = Clock()

    class Fake(rates.Measured):
        def check(self):
            return "ok"

        def run(self):
            clock.now += 1.0 if self.name.endswith(names.OURS) else 2.5
            return 10.0

    monkeypatch.setattr(rates, "Measured", Fake)
    monkeypatch.setattr(measure, "interleave", functools.partial(measure.interleave, clock=clock))
    rows = Rows()
    measure_rates(RatesPlan(seconds=20.0, only=("Flip",)), rows)
    ours = rows["operations/Flip/fastcifar"]
    assert ours.images_per_s.median == 10
    assert ours.ratios["operations/Flip/Keras"].median == pytest.approx(2.5)


def test_one_that_is_too_slow_takes_no_time_from_the_others(monkeypatch):
    clock = Clock()

    class Fake(rates.Measured):
        def check(self):
            self.slow = self.name.endswith("Keras")
            return "ok"

        def run(self):
            clock.now += 10.0 if self.slow else 1.0
            return 10.0

    monkeypatch.setattr(rates, "Measured", Fake)
    monkeypatch.setattr(measure, "interleave", functools.partial(measure.interleave, clock=clock))
    rows = Rows()
    measure_rates(RatesPlan(seconds=40.0, only=("Flip",)), rows)
    assert rows["operations/Flip/fastcifar"].images_per_s.n == 10  # of four that take turns
    assert rows["operations/Flip/Keras"].images_per_s.median == 1
    assert rows["operations/Flip/Keras"].images_per_s.n == 2
    assert list(rows["operations/Flip/fastcifar"].ratios) == ["operations/Flip/KerasCV"]


def test_one_that_cannot_be_made_is_an_error_of_its_row(short, monkeypatch):
    monkeypatch.setattr(rates.peers, "make", lambda *arguments: 1 / 0)
    rows = measured("Flip")
    assert rows["operations/Flip/Keras"].error == "ZeroDivisionError: division by zero"
    assert rows["operations/Flip/fastcifar"].images_per_s is not None


def test_the_numbers_that_are_drawn_are_part_of_what_is_timed():
    traced = tf.function(rates.our_function(get("flip"), 8))
    images, labels, seed, positions = rates.held_batch(PLAN)
    first, other = (traced(images, labels, seed, positions + 8 * i)[0].numpy() for i in range(2))
    assert (first != other).any()
    assert traced.experimental_get_tracing_count() == 1


def test_all_operations_and_policies_are_measured():
    found = names.subjects()
    assert {"Flip", "Zoom", "TrivialAugment", "MixUp", "none", "standard", "rand"} <= set(found)
    assert not {"KerasCV", "keras-cv", "Operation", "Photometric"} & set(found)
    assert found["Equalise"][1].operations[0].probability == 1


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 4, 4, 3), np.float64), r"Received: float64 \(2, 4, 4, 3\)"),
        (np.zeros((2, 4, 5, 3), np.float32), r"Received: float32 \(2, 4, 5, 3\)"),
        (np.full((2, 4, 4, 3), 256, np.float32), "Received: 256..256"),
        (np.full((2, 4, 4, 3), np.nan, np.float32), "Received: nan..nan"),
    ],
)
def test_answers_of_another_form_are_wrong(images, said):
    assert re.search(said, rates.judge_images(tf.constant(images), (2, 4, 4, 3)))


def test_why_a_function_does_not_compile():
    @tf.function(jit_compile=True)
    def crops(images):
        return tf.image.crop_and_resize(images, [[0.0, 0.0, 1.0, 1.0]], [0], [2, 2])

    images = tf.zeros([1, 4, 4, 3])
    said = rates.why_not_compiled(lambda: crops(images))
    assert said == "CropAndResize has no XLA kernel"

    def refuses():
        raise ValueError("a b c d e f g h i j k l")

    assert rates.why_not_compiled(refuses) == "a b c d e f g h i j"
    assert rates.why_not_compiled(lambda: images) == ""
