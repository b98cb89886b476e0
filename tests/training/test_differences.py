"""What a resumed run is told of: every setting that may differ and may change bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fastcifar import arguments, environment
from fastcifar.config import DataConfig, RuntimeConfig
from fastcifar.rundir import RunDir
from fastcifar.runtime import Runtime
from fastcifar.training.differences import computing, of_resumed
from fastcifar.training.interrupts import Interrupted
from fastcifar.training.trainer import train
from tests.training.small_run import small
from tests.training.test_trainer import StopAt

pytestmark = pytest.mark.usefixtures("two_stages")

# Settings that a resumed run may change and that leave every bit as it is (tests hold them to it),
# or that show themselves in what they choose: replicas, workers, threads.
SAME_BITS = {"steps_per_call", "profile", "compile_cache", "gpu_memory_limit", "worker_timeout"}
SHOWN_OTHERWISE = {
    *("strategy", "devices", "logical_devices", "intra_op_threads", "inter_op_threads"),
}
LISTED = {"precision", "xla", "reduce_dtype", "reduction", "tf32", "deterministic"}
DATA_SAME_BITS = {"data_path", "memory_budget", "prefetch", "parallel_map"}
DATA_LISTED = {"cache"}


def runtime(**changes: Any) -> Runtime:
    given = {"strategy": None, "replicas": 2, "gpus": ("H100",), "precision": "float32"}
    return Runtime(**{**given, "xla": False, **changes})  # type: ignore[arg-type]


def recorded(chosen: Runtime, **changes: Any) -> dict[str, Any]:
    return {"computing": computing(small(**changes), chosen)}


def test_every_setting_that_may_change_is_known() -> None:
    fields = {field.name for field in dataclasses.fields(RuntimeConfig)}
    assert fields == SAME_BITS | SHOWN_OTHERWISE | LISTED
    assert set(arguments._OF_THE_MACHINE) == DATA_SAME_BITS | DATA_LISTED
    assert {field.name for field in dataclasses.fields(DataConfig)} > DATA_LISTED


@pytest.mark.parametrize(
    ("chosen", "changes", "expected"),
    [
        ({}, {}, []),
        ({}, {"runtime": {"steps_per_call": "1"}, "data": {"cache": "none"}}, []),
        (
            {"precision": "mixed_bfloat16"},
            {},
            ["precision: mixed_bfloat16 instead of float32"],
        ),
        ({"xla": True}, {}, ["xla: on instead of off"]),
        ({"replicas": 4}, {}, ["number of replicas: 4 instead of 2"]),
        (
            {},
            {"runtime": {"reduce_dtype": "bfloat16"}},
            ["reduce-dtype: bfloat16 instead of float32"],
        ),
        (
            {},
            {"runtime": {"reduction": "overlapped"}},
            ["reduction: overlapped instead of packed"],
        ),
        ({}, {"runtime": {"tf32": False}}, ["tf32: False instead of True"]),
        ({}, {"runtime": {"deterministic": True}}, ["deterministic: True instead of False"]),
        ({}, {"data": {"cache": "device"}}, ["place of the images: device instead of host"]),
    ],
)
def test_settings_that_may_change_bits_are_listed(
    chosen: dict[str, Any], changes: dict[str, Any], expected: list[str]
) -> None:
    before = {"data": {"cache": "memory"}}
    now = recorded(runtime(**chosen), **{**before, **changes})
    wanted = [f"resumed with another {line}" for line in expected]
    assert of_resumed(recorded(runtime(), **before), now) == wanted


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("versions", {"keras": "9"}, "version of keras: 9 instead of "),
        ("cpu", "another", "CPU: another instead of "),
        ("cpu_flags", ["avx2"], "instruction set: avx2 instead of "),
        ("cores", 1024, "number of cores: 1024 instead of "),
        ("gpus", ["H100", "H100"], "set of GPUs: H100, H100 instead of none"),
        ("driver", "570", "GPU driver: 570 instead of none"),
        ("threads", {"intra_op": 9}, "setting of threads intra_op: 9 instead of 0"),
        ("commit", "abc", "commit of fastcifar: abc instead of "),
        ("variables", {"XLA_FLAGS": "--a"}, "environment variable XLA_FLAGS: --a instead of none"),
    ],
)
def test_another_machine_is_listed(key: str, value: Any, expected: str) -> None:
    before = environment.fingerprint(threads={"intra_op": 0}) | {"variables": {}, "cpu_flags": []}
    assert of_resumed(before, before) == []
    now = before | {key: {**before[key], **value} if isinstance(value, dict) else value}
    (line,) = of_resumed(before, now)
    assert line.startswith(f"resumed with another {expected}")
    # What an older version has not recorded is not compared.
    assert of_resumed({k: v for k, v in before.items() if k != key}, now) == []


def test_the_folder_of_the_compile_cache_is_no_difference() -> None:
    flags = "--tf_xla_persistent_cache_directory=/somewhere"
    for before, now in (({}, flags), ({"TF_XLA_FLAGS": "--a"}, f"--a {flags}")):
        assert of_resumed({"variables": before}, {"variables": {"TF_XLA_FLAGS": now}}) == []


@pytest.mark.slow
def test_a_resumed_run_lists_its_differences(tmp_path) -> None:
    folder = str(tmp_path / "run")
    config = small(runtime={"steps_per_call": "1"}, phase={"epochs": 1})
    with pytest.raises(Interrupted):
        train(config, folder, display=StopAt(2))
    other = small(
        runtime={"precision": "mixed_bfloat16", "logical_devices": 2}, phase={"epochs": 1}
    )
    train(other, folder, resume=True)
    summary = RunDir(folder).read_summary()
    assert summary is not None
    assert summary["warnings"] == [
        "resumed with another precision: mixed_bfloat16 instead of float32",
        "resumed with another number of replicas: 2 instead of 1",
    ]
