"""Operations are data that refuses nonsense."""

import dataclasses

import pytest

from fastcifar.augment import operations as op
from fastcifar.errors import ConfigError

ALL = [
    getattr(op, name)
    for name in op.__all__
    if isinstance(getattr(op, name), type)
    and issubclass(getattr(op, name), op.Operation)
    and getattr(op, name).__subclasses__() == []
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_defaults_are_legal_hashable_and_described(kind):
    operation = kind()
    assert operation == kind()
    assert hash(operation) == hash(kind())
    assert operation.describe().startswith(kind.__name__ + "(")
    assert operation.columns >= 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        operation.anything = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: op.Flip(probability=1.5), r"Flip.probability .* within \[0, 1\]. Received: 1.5"),
        (lambda: op.Flip(probability=-0.1), "Received: -0.1"),
        (lambda: op.Flip(axis="diagonal"), "one of horizontal, vertical. Received: 'diagonal'"),
        (lambda: op.Hue(probability=True), "Received: True"),
        (lambda: op.PadCrop(padding=-1), "whole number"),
        (lambda: op.PadCrop(padding=1.5), "whole number"),
        (lambda: op.PadCrop(border="wrap"), "zero, reflect, edge"),
        (lambda: op.Zoom(factor=(1.2, 0.8)), r"upside down.*Received: \(1.2, 0.8\)"),
        (lambda: op.Zoom(factor=(0.0, 0.8)), r"within \[0.1, 10\]"),
        (lambda: op.Zoom(factor=1.0), r"pair \(low, high\)"),
        (lambda: op.Rotate(degrees=(0, float("nan"))), "finite"),
        (lambda: op.RandomResizedCrop(area=(0.5, 1.5)), r"area must lie within \[0.01, 1\]"),
        (lambda: op.Brightness(factor=(-1, 1)), "Brightness.factor"),
        (lambda: op.Posterise(bits=(0, 8)), r"within \[1, 8\]"),
        (lambda: op.Cutout(side=2), "Cutout.side"),
        (lambda: op.Cutout(fill=(0, 0)), "three numbers"),
        (lambda: op.Cutout(fill=(0, 0, 300)), "three numbers"),
        (lambda: op.RandomErasing(probability=2), "probability"),
        (lambda: op.MixUp(alpha=0), "MixUp.alpha"),
        (lambda: op.CutMix(probability=7), "CutMix.probability"),
        (lambda: op.RandAugment(layers=0), "RandAugment.layers"),
        (lambda: op.RandAugment(magnitude=31), r"within \[0, 30\]"),
        (lambda: op.TrivialAugment(translate_pixels=-1), "TrivialAugment.translate_pixels"),
        (lambda: op.RandAugment(translate=1.5), "RandAugment.translate"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_lists_from_configuration_files_become_tuples():
    assert op.Zoom([1, 2]) == op.Zoom((1.0, 2.0))
    assert hash(op.Cutout(fill=[0, 0, 0])) == hash(op.Cutout(fill=(0, 0, 0)))


def test_columns_of_rand_augment_grow_with_its_layers():
    assert op.RandAugment(layers=3).columns == 3 * op.TrivialAugment().columns
