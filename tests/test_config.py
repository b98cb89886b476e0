"""Every rule of every dataclass: refused with the flag, the rule and what was received."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fastcifar.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    RunConfig,
    RuntimeConfig,
    flag,
)
from fastcifar.errors import ConfigError, UserError

CLASSES = (DataConfig, ModelConfig, OptimizerConfig, PhaseConfig, RunConfig, RuntimeConfig)

# What each field refuses: (class, field, values, rule).
RULES = [
    (DataConfig, "storage_size", (0, -1), "1 or more"),
    (DataConfig, "synthetic_count", (0, -5), "1 or more"),
    (DataConfig, "synthetic_classes", (1, 0, -1), "2 or more"),
    (DataConfig, "synthetic_size", (0, -1), "1 or more"),
    (DataConfig, "limit_train", (0, -1), "1 or more"),
    (DataConfig, "limit_test", (0, -1), "1 or more"),
    (DataConfig, "validation_fraction", (-0.1, 1.0, 2), "0 or more and below 1"),
    (DataConfig, "prefetch", (-1,), "0 or more"),
    (DataConfig, "parallel_map", (0, -1), "1 or more"),
    (ModelConfig, "width", (0, -64), "1 or more"),
    (ModelConfig, "batch_norm_momentum", (-0.1, 1.0, 1), "0 or more and below 1"),
    (ModelConfig, "batch_norm_epsilon", (0.0, -1e-5), "above 0"),
    (OptimizerConfig, "momentum", (-0.1, 1.0), "0 or more and below 1"),
    (OptimizerConfig, "weight_decay", (-5e-4,), "0 or more"),
    (OptimizerConfig, "label_smoothing", (-0.1, 1.0), "0 or more and below 1"),
    (OptimizerConfig, "clip_norm", (0.0, -1.0), "above 0"),
    (RuntimeConfig, "devices", (0, -1), "1 or more"),
    (RuntimeConfig, "logical_devices", (0, -1), "1 or more"),
    (RuntimeConfig, "steps_per_call", ("0", "-1", "1.5", "many", ""), "auto, or 1 or more"),
    (PhaseConfig, "epochs", (0, -1), "1 or more"),
    (PhaseConfig, "learning_rate", (0.0, -0.1), "above 0"),
    (PhaseConfig, "warmup_epochs", (-0.5, 5.5), "between 0 and the phase's epochs"),
    (PhaseConfig, "image_size", (0, -32), "1 or more"),
    (RunConfig, "global_batch_size", (0, -128), "1 or more"),
    (RunConfig, "seed", (-1,), "0 or more"),
    (RunConfig, "checkpoint_every", (0, -1), "1 or more"),
]
CASES = [(cls, name, value, rule) for cls, name, values, rule in RULES for value in values]


@pytest.mark.parametrize(("cls", "name", "value", "rule"), CASES)
def test_a_value_outside_its_range_is_refused(cls, name, value, rule):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    received = repr(value) if isinstance(value, str) else value
    assert str(caught.value) == f"{flag(name)} must be {rule}. Received: {received}"


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (DataConfig, {"storage_size": 1, "limit_train": 1, "limit_test": 1, "prefetch": 0}),
        (DataConfig, {"synthetic_count": 1, "synthetic_classes": 2, "synthetic_size": 1}),
        (DataConfig, {"validation_fraction": 0, "parallel_map": 1}),
        (ModelConfig, {"width": 1, "batch_norm_momentum": 0, "batch_norm_epsilon": 1e-12}),
        (OptimizerConfig, {"momentum": 0, "weight_decay": 0, "label_smoothing": 0}),
        (OptimizerConfig, {"clip_norm": 1e-12}),
        (RuntimeConfig, {"devices": 1, "logical_devices": 1, "steps_per_call": "1"}),
        (PhaseConfig, {"epochs": 1, "learning_rate": 1e-12, "warmup_epochs": 1, "image_size": 1}),
        (RunConfig, {"global_batch_size": 1, "seed": 0, "checkpoint_every": 1}),
        (RunConfig, {"seed": 2**31 - 1}),
    ],
)
def test_the_ends_of_the_ranges_are_legal(cls, values):
    config = cls(**values)
    assert {name: getattr(config, name) for name in values} == values


def fields_of_type(*wanted):
    return [(c, f.name) for c in CLASSES for f in dataclasses.fields(c) if f.type in wanted]


@pytest.mark.parametrize(("cls", "name"), fields_of_type("int", "int | None"))
@pytest.mark.parametrize("value", ["5", 5.0, True, [5], math.nan])
def test_whole_numbers_are_whole(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    assert str(caught.value) == f"{flag(name)} must be a whole number. Received: {value!r}"


@pytest.mark.parametrize(("cls", "name"), fields_of_type("int", "int | None"))
def test_whole_numbers_fit_into_int32(cls, name):
    with pytest.raises(ConfigError, match=f"^{flag(name)} must be a number below 2147483648"):
        cls(**{name: 2**31})


@pytest.mark.parametrize(("cls", "name"), fields_of_type("float", "float | None"))
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("0.5", "a number. Received: '0.5'"),
        (True, "a number. Received: True"),
        ({}, "a number. Received: {}"),
        (math.nan, "a finite number. Received: nan"),
        (math.inf, "a finite number. Received: inf"),
        (-math.inf, "a finite number. Received: -inf"),
        (10**400, f"a number below 2147483648. Received: {10**400}"),
    ],
)
def test_numbers_are_finite_numbers(cls, name, value, rule):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    assert str(caught.value) == f"{flag(name)} must be {rule}"


@pytest.mark.parametrize(("cls", "name"), fields_of_type("bool"))
@pytest.mark.parametrize("value", ["yes", 1, 0, None])
def test_switches_are_true_or_false(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    assert str(caught.value) == f"{flag(name)} must be true or false. Received: {value!r}"


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (DataConfig, "dataset"),
        (DataConfig, "data_path"),
        (PhaseConfig, "augment"),
        (PhaseConfig, "name"),
        (RuntimeConfig, "steps_per_call"),
        (RunConfig, "recipe"),
    ],
)
@pytest.mark.parametrize("value", [5, True, ["x"]])
def test_text_is_text(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    assert str(caught.value) == f"{flag(name)} must be text. Received: {value!r}"


@pytest.mark.parametrize(("cls", "name"), fields_of_type("int", "float", "str", "bool"))
def test_only_optional_fields_may_be_none(cls, name):
    with pytest.raises(ConfigError, match=f"^{flag(name)} must be .* Received: None$"):
        cls(**{name: None})


@pytest.mark.parametrize(
    ("cls", "name", "value", "legal", "guess"),
    [
        (DataConfig, "source", "tdfs", "tfds, image_folder, keras, kaggle, synthetic", "tfds"),
        (DataConfig, "cache", "ram", "memory, device, disk, none", None),
        (DataConfig, "order", "permutations", "permutation, shuffle_buffer", "permutation"),
        (DataConfig, "transfer", "uint", "uint8, float32", "uint8"),
        (DataConfig, "augment_on", "gpu", "device, host", None),
        (DataConfig, "resize_on", "hosts", "device, host", "host"),
        (ModelConfig, "depth", 18, "14, 26, 50, 101, 152", None),
        (ModelConfig, "depth", 50.0, "14, 26, 50, 101, 152", None),
        (ModelConfig, "depth", "50", "14, 26, 50, 101, 152", None),
        (ModelConfig, "stem", "cifar10", "auto, imagenet, cifar", "cifar"),
        (ModelConfig, "stride_version", "v1.50", "auto, v1, v1.5", "v1.5"),
        (ModelConfig, "normalise", "Unit", "auto, unit, cifar, imagenet, caffe", "unit"),
        (ModelConfig, "resize_method", "bicubic", "bilinear, nearest", None),
        (OptimizerConfig, "optimizer", "sgdd", "sgd, adam, adamw, rmsprop", "sgd"),
        (RuntimeConfig, "xla", True, "auto, on, off", None),
        (RuntimeConfig, "strategy", "miror", "auto, none, mirrored, multi_worker", "mirrored"),
        (PhaseConfig, "schedule", "cosin", "constant, cosine, one_cycle", "cosine"),
        (PhaseConfig, "schedule", None, "constant, cosine, one_cycle", "cosine"),
        (PhaseConfig, "schedule", ["cosine"], "constant, cosine, one_cycle", "cosine"),
    ],
)
def test_a_choice_names_the_legal_ones_and_the_nearest(cls, name, value, legal, guess):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    head, _, tail = str(caught.value).partition(" Did you mean ")
    assert head == f"{flag(name)} must be one of {legal}. Received: {value!r}."
    if isinstance(value, str):
        assert tail == (f"'{guess}'?" if guess else "")


def test_precision_names_the_policies():
    with pytest.raises(ConfigError, match=r"mixed_bfloat16, mixed_float16\. Received: 'float16'"):
        RuntimeConfig(precision="float16")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"source": "image_folder"},
            "source image_folder needs its folder: add --data-path DIR. Received: data-path None",
        ),
        (
            {"source": "image_folder", "data_path": ""},
            "source image_folder needs its folder: add --data-path DIR. Received: data-path ''",
        ),
        (
            {"augment_on": "host"},
            "augment-on host needs resize-on host, because augmentation and resizing are one "
            "resampling. Received: resize-on device",
        ),
        (
            {"cache": "device", "resize_on": "host"},
            "cache device keeps images on the device, so augment-on and resize-on must be device. "
            "Received: augment-on device, resize-on host",
        ),
        (
            {"cache": "device", "order": "shuffle_buffer"},
            "cache device needs order permutation. Received: order shuffle_buffer",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_refused(values, said):
    with pytest.raises(ConfigError) as caught:
        DataConfig(**values)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "values",
    [
        {"source": "image_folder", "data_path": "images"},
        {"augment_on": "host", "resize_on": "host"},
        {"augment_on": "device", "resize_on": "host"},
        {"cache": "device"},
    ],
)
def test_fields_that_go_together_are_legal(values):
    DataConfig(**values)


def test_a_run_has_one_phase_or_more():
    with pytest.raises(ConfigError) as caught:
        RunConfig(phases=())
    assert str(caught.value) == "phases must hold one phase or more. Received: none"


def test_epochs_are_those_of_all_phases():
    assert RunConfig(phases=(PhaseConfig(epochs=10), PhaseConfig(epochs=5))).epochs == 15


@pytest.mark.parametrize("cls", CLASSES)
def test_configurations_are_frozen_and_equal_by_value(cls):
    assert cls() == cls()
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, None)


def test_a_configuration_error_is_the_users_and_exits_with_2():
    assert issubclass(ConfigError, UserError)
    assert ConfigError.exit_status == 2
