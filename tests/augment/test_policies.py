"""Policies are data: names, combinations, text, and no TensorFlow."""

import subprocess
import sys

import pytest

from fastcifar.augment import POLICIES, Policy, combine, get
from fastcifar.augment import operations as op
from fastcifar.errors import ConfigError


def test_names_and_data_do_not_import_tensorflow():
    code = (
        "import sys, fastcifar.augment as a; a.get('standard+mixup').describe();"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_promised_policies_exist():
    promised = "none flip flip-crop standard flip-rotate-zoom trivial rand mixup cutmix keras-cv"
    assert set(promised.split()) <= set(POLICIES)
    assert all(name == policy.name for name, policy in POLICIES.items())


@pytest.mark.parametrize(
    ("name", "mixes", "group_size", "compiled"),
    [
        ("none", False, 1, True),
        ("standard", False, 1, True),
        ("mixup", True, 2, True),
        ("trivial", False, 8, True),
        ("trivial+cutmix", True, 8, True),
        ("keras-cv", False, 1, False),
        ("keras-cv+mixup", True, 2, False),
    ],
)
def test_properties(name, mixes, group_size, compiled):
    policy = get(name)
    assert (policy.mixes, policy.group_size, policy.compiled) == (mixes, group_size, compiled)


def test_combination_keeps_the_order():
    policy = get("flip-crop+cutout+mixup")
    assert policy.name == "flip-crop+cutout+mixup"
    assert policy.operations == (op.Flip(), op.PadCrop(), op.Cutout(), op.MixUp())
    assert combine(get("flip")).operations == get("flip").operations


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("standrd", "Received: 'standrd'.*Did you mean 'standard'"),
        ("standard+mixpu", "Received: 'mixpu'.*Did you mean 'mixup'"),
        ("", "Received: ''"),
        ("flip+", "Received: ''"),
        (None, "Received: None"),
        ("flip-crop+flip-rotate-zoom", "one border mode. Received: reflect, zero"),
        ("keras-cv+flip", "mixing policies only"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ConfigError, match=message):
        get(name)


def test_foreign_operations_are_refused():
    with pytest.raises(ConfigError, match=r"must come from fastcifar\.augment\.operations"):
        Policy("mine", ("flip",))


def test_text_names_every_operation_and_property():
    text = get("trivial+mixup").describe()
    assert text.splitlines()[0].endswith("[mixes labels, groups of 8]")
    for name in ("Flip(", "PadCrop(padding=4", "TrivialAugment(", "MixUp(alpha=1"):
        assert f"\n  {name}" in text
    assert "not compiled by XLA" in get("keras-cv").describe()
    assert get("none").describe().endswith("(nothing)")
