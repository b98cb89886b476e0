"""What weights mean, and how a configuration comes to terms with it."""

from __future__ import annotations

from typing import Any

import pytest

from fastcifar.errors import ConfigError
from fastcifar.models.meaning import KERAS_APPLICATIONS, Choice, Meaning, settle


def test_without_weights_auto_is_the_published_network_and_cifar_pixels() -> None:
    assert settle(None) == Choice("imagenet", "v1", 1.001e-5, "cifar")


def test_auto_adopts_what_the_weights_mean() -> None:
    assert settle(KERAS_APPLICATIONS) == Choice("imagenet", "v1", 1.001e-5, "caffe")
    theirs = Meaning("cifar", "v1.5", "symmetric", 1e-3, "unit")
    assert settle(theirs) == Choice("cifar", "v1.5", 1e-3, "unit")


def test_explicit_values_that_agree_are_silent() -> None:
    choice = settle(
        KERAS_APPLICATIONS,
        stem="imagenet",
        stride_version="v1",
        batch_norm_epsilon=1.001e-5,
        normalise="caffe",
    )
    assert choice.notes == choice.warnings == ()


def test_another_normalisation_is_a_warning() -> None:
    choice = settle(KERAS_APPLICATIONS, normalise="unit")
    assert choice.normalise == "unit"
    (warning,) = choice.warnings
    assert "normalise unit is not what the weights were trained with, caffe" in warning
    assert settle(None, normalise="unit").warnings == ()


def test_the_cifar_stem_goes_with_weights_of_the_other_stem() -> None:
    choice = settle(KERAS_APPLICATIONS, stem="cifar")
    assert (choice.stem, choice.notes, choice.warnings) == ("cifar", (), ())


def test_what_the_weights_do_not_say_is_taken_and_said() -> None:
    choice = settle(Meaning(stem="cifar"), normalise="unit")
    assert choice == Choice("cifar", "v1", 1.001e-5, "unit", notes=choice.notes)
    (note,) = choice.notes
    assert note.endswith("taken: stride-version v1, batch-norm-epsilon 1.001e-05")


@pytest.mark.parametrize(
    ("meaning", "asked", "message"),
    [
        (
            KERAS_APPLICATIONS,
            {"stride_version": "v1.5"},
            "stride-version must be that of the weights, v1. Received: v1.5. Leave "
            "--stride-version out",
        ),
        (KERAS_APPLICATIONS, {"batch_norm_epsilon": 1e-3}, "that of the weights, 1.001e-05. Rec"),
        (Meaning(stem="cifar"), {"stem": "imagenet"}, "stem must be that of the weights, cifar"),
        (Meaning(padding="same"), {}, "pads as many zeros on each side. .* padding 'same'"),
    ],
)
def test_an_explicit_conflict_is_an_error(
    meaning: Meaning, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(meaning, **asked)
