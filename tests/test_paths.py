"""Paths in flags, configurations and variables: `~`, file://, and addresses elsewhere."""

from __future__ import annotations

import os
import typing
from pathlib import Path

import pytest

from fastcifar import arguments, paths
from fastcifar.bench import commands, process_flags
from fastcifar.bench import flags as bench_flags
from fastcifar.config import DataConfig, ModelConfig, RuntimeConfig, flag
from fastcifar.errors import ConfigError

# Flags of text that name no path; every other one must be among `arguments.PATHS`.
NO_PATH = {
    *("dataset", "memory-budget", "gpu-memory-limit", "steps-per-call", "axes", "rungs", "only"),
    *("replicas", "stages"),
    *map(flag, arguments._flag_types(arguments.PhaseFlags)),
}


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/x", "/home/ada/x"),
        ("~", "/home/ada"),
        ("a/~/b", "a/~/b"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("gs:", "gs:"),
        ("a:b/c", "a:b/c"),
    ],
)
def test_a_path_of_this_machine(text, path):
    assert paths.local_path("out", text) == path


@pytest.mark.parametrize("scheme", ["gs", "S3", "hdfs", "http", "https", "abfss", "file", "x+y"])
def test_an_address_elsewhere_is_refused_and_keeps_its_secrets(scheme):
    with pytest.raises(ConfigError) as refused:
        paths.local_path("data-path", f"{scheme}://user:secret@bucket/images?signature=secret")
    assert str(refused.value).startswith("data-path must be a path of this machine: ")
    assert str(refused.value).endswith(f"Received: '{scheme}://bucket/…'")


def test_a_process_without_a_home_never_gets_a_folder_called_tilde(monkeypatch):
    monkeypatch.setattr(paths.os.path, "expanduser", lambda text: text)
    with pytest.raises(ConfigError, match="no home folder"):
        paths.local_path("run-dir", "~/runs")


def flag_sets():
    """Every dataclass of flags."""
    found = [arguments.TrainFlags, arguments.EvaluateFlags, arguments.PrepareFlags]
    found += [arguments.AugmentFlags, bench_flags.MeasureFlags]
    modules = (*vars(process_flags).values(), *vars(commands).values())
    found += [value for value in modules if isinstance(value, type)]
    return [
        kind for kind in found if kind in found[:4] or issubclass(kind, bench_flags.MeasureFlags)
    ]


@pytest.mark.parametrize("kind", flag_sets(), ids=lambda kind: kind.__name__)
def test_every_flag_that_names_a_path_is_known_as_one(kind):
    types = arguments._flag_types(kind)
    texts = {n for n, hint in types.items() if str in (hint, *typing.get_args(hint))}
    texts -= NO_PATH | {n for n in types if typing.get_origin(types[n]) is typing.Literal}
    assert texts <= arguments.PATHS
    for name in texts:
        assert take(kind, name, "~/x") == "/home/ada/x"
        with pytest.raises(ConfigError, match=f"^{name} must be a path of this machine"):
            take(kind, name, "gs://b/x")


def take(kind, name, text):
    """A flag's value as a command reads it."""
    if issubclass(kind, bench_flags.MeasureFlags):
        given, _ = bench_flags.split([f"--{name}", text], kind)
        return getattr(given, name.replace("-", "_"))
    return arguments._take_apart([f"--{name}", text], kind, "").texts[name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(DataConfig, "data_path"), (ModelConfig, "weights"), (RuntimeConfig, "compile_cache")],
)
def test_a_configuration_holds_paths_of_this_machine(kind, name):
    assert getattr(kind(**{name: "~/x"}), name) == "/home/ada/x"
    with pytest.raises(ConfigError, match=f"{name.replace('_', '-')} must be a path of this mach"):
        kind(**{name: "gs://bucket/x"})


def test_the_folder_of_a_run_to_evaluate(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Exception, match=f"{tmp_path}/run is not a run folder"):
        arguments.parse_evaluate(["~/run"])
    with pytest.raises(ConfigError, match="RUN must be a path of this machine"):
        arguments.parse_evaluate(["s3://b/run"])


@pytest.mark.parametrize("name", ["FASTCIFAR_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_elsewhere_is_refused(monkeypatch, name):
    from fastcifar.data.storage import cache_folder

    for other in ("FASTCIFAR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    assert cache_folder() == Path("/home/ada/.cache/fastcifar")
    monkeypatch.setenv(name, "gs://bucket/cache")
    with pytest.raises(ConfigError, match=f"{name} must be a path of this machine"):
        cache_folder()


def test_the_folder_of_keras_is_where_keras_looks(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.keras_home() == tmp_path / ".keras"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert paths.keras_home() == Path("/tmp/.keras")
    monkeypatch.setenv("KERAS_HOME", "~/k")
    assert paths.keras_home() == tmp_path / "k"


def test_the_programs_beside_the_command_read_paths_alike(capsys):
    from fastcifar.bench import trace
    from fastcifar.bench.suite import command as suite

    assert paths.given_path("~/run") == Path("/home/ada/run")
    assert trace.main(["gs://bucket/run"]) == 2
    assert suite.main(["--data", "s3://bucket/images", "out"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all("must be a path of this machine" in line for line in errors)
