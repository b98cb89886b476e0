"""A run folder's files are whole or absent, and every refusal is one line."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastcifar import rundir
from fastcifar.config import RunConfig
from fastcifar.errors import RunDirError
from fastcifar.rundir import RunDir, read_arrays, write_whole


def fail(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["fsync", "replace", "open", "mkdir"])
def full_disk(request):
    """A context in which the disk refuses at one of the places where a file is written."""
    owner = os if request.param in ("fsync", "replace") else Path

    @contextmanager
    def full():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, request.param, fail)
            yield

    return full


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def one_line(caught: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_default_path_is_the_recipe_and_the_time():
    assert re.fullmatch(r"runs/tiny-\d{8}T\d{6}Z", str(rundir.default_path("tiny")))


def test_runs_started_in_one_second_have_a_folder_each(tmp_path):
    path = tmp_path / "runs" / "tiny-20260101T000000Z"
    barrier = threading.Barrier(4)
    found = []

    def start():
        barrier.wait()
        with rundir.claimed(path) as own:
            (own / "config.json").write_text("{}")
            found.append(own)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [path, *(path.with_name(f"{path.name}-{i}") for i in (2, 3, 4))]
    assert all(own.is_dir() for own in found)


def test_a_claimed_folder_without_a_run_goes_again(tmp_path):
    with pytest.raises(ValueError, match="a mistake"), rundir.claimed(tmp_path / "run") as own:
        raise ValueError("a mistake")
    assert not own.exists()


def test_a_folder_that_cannot_be_claimed_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunDirError, match="cannot be written") as caught,
        rundir.claimed(tmp_path / "file" / "run"),
    ):
        pass
    one_line(caught)


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_whole(path, lambda file: file.write(b"one"))
    write_whole(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert files(tmp_path) == ["a/b/file.bin"]


def test_until_it_is_whole_the_file_before_stands(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")

    def write(file):
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"before"

    write_whole(path, write)
    assert path.read_bytes() == b"half"


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path, full_disk):
    path = tmp_path / "file.bin"
    with full_disk(), pytest.raises(RunDirError) as caught:
        write_whole(path, lambda file: file.write(b"new"))
    assert one_line(caught) == (
        f"{path} cannot be written: No space left on device. "
        "Free space there, or choose another place"
    )
    assert files(tmp_path) == []


def test_a_disk_that_refuses_leaves_the_file_before_intact(tmp_path, full_disk):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    with full_disk(), pytest.raises(RunDirError):
        write_whole(path, lambda file: file.write(b"new"))
    assert files(tmp_path) == ["file.bin"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError("the disk is full"), RunDirError),
        (ValueError("a defect"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_breaks_off_leaves_the_file_before_intact(tmp_path, error, raised):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(raised):
        write_whole(path, write)
    assert files(tmp_path) == ["file.bin"]
    assert path.read_bytes() == b"before"


def test_a_run_folder_starts_with_its_configuration_and_machine(tmp_path):
    config = RunConfig(seed=5)
    run = RunDir.create(tmp_path / "runs" / "one", config, {"cpu": "test"})
    assert files(run.path) == ["config.json", "environment.json"]
    again = RunDir.open(str(run.path))
    assert again.read_config() == config
    assert again.read_environment() == {"cpu": "test"}
    assert again.read_metrics() == []
    assert again.read_summary() is None
    assert again.read_samples() is None


def test_a_used_folder_is_refused(tmp_path):
    RunDir.create(tmp_path, RunConfig(seed=1), {})
    with pytest.raises(RunDirError) as caught:
        RunDir.create(tmp_path, RunConfig(seed=2), {})
    assert one_line(caught) == (
        f"run folder {tmp_path} already holds a run. "
        "Add --resume to go on with it, or choose another --run-dir"
    )
    assert RunDir.open(tmp_path).read_config().seed == 1


def test_a_folder_with_other_files_may_become_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunDir.create(tmp_path, RunConfig(), {})
    assert files(tmp_path) == ["config.json", "environment.json", "notes.txt"]


def test_a_path_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(RunDirError) as caught:
        RunDir(path).check_unused()
    assert one_line(caught) == f"{path} is not a folder: choose another --run-dir"


@pytest.mark.parametrize("name", ["file/inside", "x" * 300])
def test_an_impossible_path_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="cannot be written: "):
        RunDir.create(tmp_path / name, RunConfig(), {})
    with pytest.raises(RunDirError, match="is not a run folder"):
        RunDir.open(tmp_path / name)


def test_a_run_that_could_not_be_started_is_no_run(tmp_path, monkeypatch):
    write = RunDir.write_config
    monkeypatch.setattr(RunDir, "write_config", fail)
    with pytest.raises(OSError, match="No space"):
        RunDir.create(tmp_path, RunConfig(), {})
    monkeypatch.setattr(RunDir, "write_config", write)
    RunDir.create(tmp_path, RunConfig(), {})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunDirError) as caught:
        RunDir.open(tmp_path)
    assert one_line(caught) == f"{tmp_path} is not a run folder: it has no config.json"


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.write_config(RunConfig()),
        lambda run: run.write_environment({}),
        lambda run: run.write_metrics([{"epoch": 2}]),
        lambda run: run.write_summary({"epochs": 2}),
        lambda run: run.write_samples(labels=np.ones(3)),
    ],
)
def test_every_file_of_the_folder_is_whole_or_not_at_all(tmp_path, write, full_disk):
    run = RunDir(tmp_path)
    with full_disk(), pytest.raises(RunDirError, match="No space left on device"):
        write(run)
    assert files(tmp_path) == []


def test_metrics_are_one_object_a_line(tmp_path):
    run = RunDir(tmp_path)
    run.write_metrics([{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5}])
    lines = run.metrics_path.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    run.write_metrics([{"epoch": 1, "loss": 2.5}])
    assert run.read_metrics() == [{"epoch": 1, "loss": 2.5}]


def test_what_json_cannot_say_becomes_null(tmp_path):
    run = RunDir(tmp_path)
    run.write_metrics([{"loss": math.nan, "accuracy": np.float32("nan")}])
    assert run.metrics_path.read_text() == '{"loss": null, "accuracy": null}\n'
    run.write_summary({"deep": {"list": [math.inf, -math.inf, 1.0], "tuple": (math.nan,)}})
    assert run.read_summary() == {"deep": {"list": [None, None, 1.0], "tuple": [None]}}


def test_numpy_scalars_are_numbers(tmp_path):
    run = RunDir(tmp_path)
    values = {"f": np.float64(0.5), "h": np.float32(0.25), "i": np.int64(3), "b": np.bool_(True)}
    run.write_summary(values)
    assert run.read_summary() == {"f": 0.5, "h": 0.25, "i": 3, "b": True}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"epoch": 1}\n{"epoch": 2, "lo', " line 2 must be JSON. Received: "),
        (b'{"epoch": 1}\n[2]\n', " line 2 must be a JSON object. Received: [2]"),
        (b"\x00\x01\x02", " line 1 must be JSON. Received: "),
        (b"\xff\xfe", " must be text. Received: 'utf-8' codec can't decode"),
    ],
)
def test_damaged_metrics_are_refused(tmp_path, content, said):
    run = RunDir(tmp_path)
    run.metrics_path.write_bytes(content)
    with pytest.raises(RunDirError) as caught:
        run.read_metrics()
    assert one_line(caught).startswith(f"{run.metrics_path}{said}")


@pytest.mark.parametrize("name", ["environment", "summary"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", " must be JSON. Received: Expecting value"),
        (b"{", " must be JSON. Received: Expecting property name"),
        (b"[" * 100_000, " must be JSON. Received: maximum recursion depth"),
        (b"[]", " must be a JSON object. Received: []"),
        (b"\xff", " must be text. Received: "),
    ],
    ids=lambda value: repr(value[:10]),
)
def test_damaged_json_is_refused(tmp_path, name, content, said):
    run = RunDir(tmp_path)
    path = tmp_path / f"{name}.json"
    path.write_bytes(content)
    with pytest.raises(RunDirError) as caught:
        getattr(run, f"read_{name}")()
    assert one_line(caught).startswith(f"{path}{said}")


@pytest.mark.parametrize("content", ["", "{", '{"sede": 1}', "[]"])
def test_a_damaged_configuration_is_refused(tmp_path, content):
    run = RunDir(tmp_path)
    run.config_path.write_text(content)
    with pytest.raises(RunDirError) as caught:
        run.read_config()
    assert one_line(caught).startswith(f"config file {run.config_path}")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(RunDirError) as caught:
        run.read_environment()
    path = run.environment_path
    assert one_line(caught) == f"{path} cannot be read: No such file or directory"
    run.metrics_path.mkdir()
    with pytest.raises(RunDirError, match="cannot be read: Is a directory"):
        run.read_metrics()


def test_samples_come_back(tmp_path):
    run = RunDir(tmp_path)
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    run.write_samples(images=images, labels=np.array([1, 0]), predictions=np.array([1, 1]))
    samples = run.read_samples()
    assert sorted(samples) == ["images", "labels", "predictions"]
    np.testing.assert_array_equal(samples["images"], images)
    assert samples["images"].dtype == np.uint8


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", b"\x93NUMPY\x01\x00"])
def test_damaged_arrays_are_refused(tmp_path, content):
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    with pytest.raises(RunDirError) as caught:
        RunDir(tmp_path).read_samples()
    assert one_line(caught).startswith(f"{path} is damaged: ")


def test_absent_arrays_are_refused(tmp_path):
    with pytest.raises(RunDirError) as caught:
        read_arrays(tmp_path / "absent.npz")
    assert one_line(caught) == f"{tmp_path}/absent.npz cannot be read: No such file or directory"


def test_files_have_the_usual_permissions(tmp_path):
    write_whole(tmp_path / "ours", lambda file: file.write(b""))
    (tmp_path / "usual").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "usual")]
    assert modes[0] == modes[1]
