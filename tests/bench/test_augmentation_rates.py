"""Operations against other libraries' layers: right answers only, and whether they compile."""

import functools
import re

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.bench import measure
from fastcifar.bench.augmentation import names, rates
from fastcifar.bench.augmentation.rates import RatesPlan, measure_rates
from tests.bench.subjects import Rows
from tests.bench.test_measure import Clock

PLAN = RatesPlan(source_size=8, image_size=12, global_batch_size=8, seconds=0.1, rounds=2)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(rates, "_PIECE_S", 0.001)


def measured(*only):
    rows = Rows()
    measure_rates(RatesPlan(**{**vars(PLAN), "only": only}), rows)
    return rows


def test_operations_and_policies_against_the_layers(short):
    rows = measured("Translate", "standard")
    assert list(rows) == [
        "operations/Translate/fastcifar",
        "operations/Translate/KerasCV",
        "operations/Translate/Keras",
        "policies/standard/fastcifar",
        "policies/standard/KerasCV",
        "policies/standard/Keras",
    ]
    ours, keras_cv, _ = list(rows.values())[:3]
    assert list(ours.ratios) == list(rows)[1:3]
    assert ours.images_per_s.n == 2
    assert ours.figures["compiles"] == "yes"
    assert ours.figures["xla"] is False  # on a CPU
    assert keras_cv.figures["compiles"] == "no: ImageProjectiveTransformV3 has no XLA kernel"
    assert keras_cv.ratios == {}
    assert "one offset" in rows["policies/standard/Keras"].figures["differs"]


def test_a_layer_with_a_wrong_answer_shows_no_number(short):
    rows = measured("Saturation")
    wrong = rows["operations/Saturation/Keras"]
    assert wrong.check.startswith("failed: values must lie in 0..255. Received: -")
    assert wrong.images_per_s is None
    assert rows["operations/Saturation/fastcifar"].images_per_s is not None


def test_ours_with_a_wrong_answer_shows_no_number(short, monkeypatch):
    right = rates.our_function

    def mirrored(*arguments):
        return lambda images, labels: (right(*arguments)(images, labels)[0][:, :, ::-1], labels)

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
    assert said == "no: CropAndResize has no XLA kernel"

    def refuses():
        raise ValueError("a b c d e f g h i j k l")

    assert rates.why_not_compiled(refuses) == "no: a b c d e f g h i j"
    assert rates.why_not_compiled(lambda: images) == ""
