"""Configurations as JSON: back and forth to the same, and every mistake in one line."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcifar import config_file, recipes
from fastcifar.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    RunConfig,
    RuntimeConfig,
)
from fastcifar.errors import ConfigError

# Ranges of the numbers; a field that is not here fails the test below.
NUMBERS = {
    "storage_size": st.integers(1, 4096),
    "synthetic_count": st.integers(1, 2**31 - 1),
    "synthetic_classes": st.integers(2, 1000),
    "synthetic_size": st.integers(1, 1024),
    "limit_train": st.integers(1, 2**31 - 1),
    "limit_test": st.integers(1, 2**31 - 1),
    "validation_fraction": st.floats(0, 1, exclude_max=True),
    "feature_views": st.integers(1, 100),
    "prefetch": st.integers(0, 100),
    "parallel_map": st.integers(1, 100),
    "width": st.integers(1, 4096),
    "batch_norm_momentum": st.floats(0, 1, exclude_max=True),
    "batch_norm_epsilon": st.floats(0, 1, exclude_min=True),
    "dropout": st.floats(0, 1, exclude_max=True),
    "momentum": st.floats(0, 1, exclude_max=True),
    "weight_decay": st.floats(0, 1e300),
    "label_smoothing": st.floats(0, 1, exclude_max=True),
    "clip_norm": st.floats(0, 1e300, exclude_min=True),
    "accumulate": st.integers(1, 1000),
    "ema": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "devices": st.integers(1, 64),
    "logical_devices": st.integers(1, 64),
    "worker_timeout": st.floats(0, 1e300, exclude_min=True),
    "intra_op_threads": st.integers(1, 1000),
    "inter_op_threads": st.integers(1, 1000),
    "profile": st.integers(1, 1000),
    "epochs": st.integers(1, 2**31 - 1),
    "learning_rate": st.floats(0, 1e300, exclude_min=True),
    "warmup_epochs": st.floats(0, 1),
    "image_size": st.integers(64, 4096),
    "start_image_size": st.integers(1, 64),
    "rate_decay": st.floats(0, 1, exclude_min=True),
    "global_batch_size": st.integers(1, 2**31 - 1),
    "seed": st.integers(0, 2**31 - 1),
    "rollback_factor": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "max_rollbacks": st.integers(1, 1000),
    "checkpoint_every": st.integers(1, 2**31 - 1),
}


def values(name: str, hint) -> st.SearchStrategy:
    options = typing.get_args(hint)
    if name == "steps_per_call":
        return st.just("auto") | st.integers(1, 10**6).map(str)
    if name == "trainable":
        return st.sampled_from(["all", "head", "from:conv5"])
    if name in ("weights", "compile_cache"):
        return st.text(min_size=1).filter(str.strip)
    if name in ("memory_budget", "gpu_memory_limit"):
        return st.just("auto") | st.integers(1, 512).map("{}GB".format)
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(options)
    if type(None) in options:
        return st.none() | values(name, options[0])
    if hint is str:
        return st.text()
    return st.booleans() if hint is bool else NUMBERS[name]


def configs(cls, **given_) -> st.SearchStrategy:
    hints = typing.get_type_hints(cls)
    drawn = {name: values(name, hint) for name, hint in hints.items() if name not in given_}
    return st.fixed_dictionaries({**drawn, **given_})


def made(cls, fields: st.SearchStrategy) -> st.SearchStrategy:
    """Objects of a dataclass; fields that it refuses together are not drawn."""

    def legal(drawn: dict) -> bool:
        try:
            cls(**drawn)
        except ConfigError:
            return False
        return True

    return fields.filter(legal).map(lambda drawn: cls(**drawn))


RUNS = made(
    RunConfig,
    configs(
        RunConfig,
        data=made(DataConfig, configs(DataConfig)),
        model=made(ModelConfig, configs(ModelConfig)),
        optimizer=made(OptimizerConfig, configs(OptimizerConfig)),
        runtime=made(RuntimeConfig, configs(RuntimeConfig)),
        phases=st.lists(made(PhaseConfig, configs(PhaseConfig)), min_size=1, max_size=3).map(tuple),
    ),
)


@given(RUNS)
def test_any_configuration_survives_json(config):
    text = json.dumps(config_file.to_dict(config), allow_nan=False)
    assert config_file.from_dict(json.loads(text)) == config


@pytest.mark.parametrize("name", recipes.names())
def test_a_file_gives_the_configuration_back(name, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_file.to_dict(recipes.get(name))))
    assert config_file.read(path) == recipes.get(name)
    assert config_file.read(str(path)) == recipes.get(name)


def test_absent_keys_have_the_defaults():
    assert config_file.from_dict({}) == RunConfig()
    assert config_file.from_dict({"data": {"source": "synthetic"}}).data.dataset == "cifar10"


def test_absent_keys_have_the_values_of_a_default():
    default = RunConfig(
        seed=3,
        data=DataConfig(source="synthetic", prefetch=7),
        phases=(PhaseConfig(epochs=9, image_size=64),),
    )
    read = config_file.from_dict({"data": {"prefetch": 1}}, default)
    assert read == dataclasses.replace(default, data=DataConfig(source="synthetic", prefetch=1))
    # Phases are taken whole: a file's phase does not inherit from the default's.
    read = config_file.from_dict({"phases": [{"epochs": 2}]}, default)
    assert read.phases == (PhaseConfig(epochs=2),)
    assert read.seed == 3


@pytest.mark.parametrize(
    ("received", "said"),
    [
        ({"sede": 1}, "the configuration has no key 'sede'. Did you mean 'seed'? Legal keys: "),
        ({"data": {"sorce": "tfds"}}, "data has no key 'sorce'. Did you mean 'source'? "),
        ({"model": {"dept": 50}}, "model has no key 'dept'. Did you mean 'depth'? "),
        ({"optimizer": {"wd": 1}}, "optimizer has no key 'wd'. Legal keys: accumulate, "),
        ({"runtime": {"xlaa": "on"}}, "runtime has no key 'xlaa'. Did you mean 'xla'? "),
        (
            {"phases": [{}, {"epoch": 3}]},
            "phases[1] has no key 'epoch'. Did you mean 'epochs'? ",
        ),
        # A key in the wrong place, a field of another depth.
        ({"epochs": 3}, "the configuration has no key 'epochs'."),
        ({"": 3}, "the configuration has no key ''."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(received, said):
    with pytest.raises(ConfigError) as caught:
        config_file.from_dict(received)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("received", "said"),
    [
        ([], "the configuration must be an object. Received: []"),
        (None, "the configuration must be an object. Received: None"),
        ("seed", "the configuration must be an object. Received: 'seed'"),
        ({"data": []}, "data must be an object. Received: []"),
        ({"data": None}, "data must be an object. Received: None"),
        ({"model": "resnet50"}, "model must be an object. Received: 'resnet50'"),
        ({"phases": {}}, "phases must be a list. Received: {}"),
        ({"phases": None}, "phases must be a list. Received: None"),
        ({"phases": [[]]}, "phases[0] must be an object. Received: []"),
        ({"phases": []}, "phases must hold one phase or more. Received: none"),
        ({"seed": "1"}, "seed must be a whole number. Received: '1'"),
        ({"seed": 1.0}, "seed must be a whole number. Received: 1.0"),
        ({"seed": None}, "seed must be a whole number. Received: None"),
        ({"recipe": 5}, "recipe must be text. Received: 5"),
        ({"data": {"prefetch": True}}, "prefetch must be a whole number. Received: True"),
        ({"data": {"cache": ["memory"]}}, "cache must be one of memory, device, disk, none."),
        ({"optimizer": {"momentum": {}}}, "momentum must be a number. Received: {}"),
        ({"phases": [{"learning_rate": "x"}]}, "learning-rate must be a number. Received: 'x'"),
    ],
)
def test_a_wrong_json_type_is_refused(received, said):
    with pytest.raises(ConfigError) as caught:
        config_file.from_dict(received)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "must be JSON. Received: Expecting value: line 1 column 1 (char 0)"),
        (b'{"seed": 1', "must be JSON. Received: Expecting ',' delimiter"),
        (b"{'seed': 1}", "must be JSON. Received: Expecting property name"),
        (b"seed = 1\n", "must be JSON. Received: Expecting value"),
        (b"\x89PNG\r\n\x1a\n", "must be JSON. Received: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "must be JSON. Received: maximum recursion depth"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "must be JSON. Received: Exceeds the limit"),
        (b'{"phases": [{"learning_rate": 1e400}]}', "learning-rate must be a finite number."),
        (b'{"phases": [{"learning_rate": NaN}]}', "learning-rate must be a finite number."),
        (b'{"name": "some-package", "version": "1.0.0"}', "the configuration has no key 'name'."),
        (b"[1, 2, 3]", "the configuration must be an object. Received: [1, 2, 3]"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_broken_or_foreign_file_is_refused_by_name_in_one_line(text, said, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        config_file.read(path)
    message = str(caught.value)
    assert message.startswith(f"config file {path}")
    assert said in message
    assert "\n" not in message
    assert len(message) < 1000


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config_file.read(tmp_path / "absent.json")
    assert str(caught.value) == (
        f"config file {tmp_path}/absent.json cannot be read: No such file or directory"
    )
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config_file.read(tmp_path)
