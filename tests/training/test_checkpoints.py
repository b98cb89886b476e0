"""Checkpoints: which are kept, what comes back, and what a refusing disk leaves standing."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fastcifar.errors import RunDirError
from fastcifar.training import checkpoints
from fastcifar.training.checkpoints import Checkpoints, Progress, load

ARRAYS = {
    "model/stem/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "slots/momentum/stem/kernel": np.zeros((2, 3, 4), np.float32),
    "loss_scale": np.float32(32768.0),
    "updates": np.int64(7),
}


def fail(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def save(kept, step, *, best=False):
    return kept.save({"step": np.int64(step)}, Progress(step=step), best=best)


def names(kept):
    return sorted(path.name for path in kept.folder.iterdir())


def test_all_state_comes_back(kept):
    progress = Progress(
        step=12,
        steps_per_epoch=5,
        epochs=[{"epoch": 1, "loss": 0.1 + 0.2, "validation_loss": None}, {"epoch": 2}],
        partial={"loss": 1.5, "images": 256.0},
        seconds={"train": 1 / 3},
        skipped_steps=1,
        best_epoch=2,
        best_accuracy=0.5,
        warnings=["a warning — with a dash"],
    )
    path = kept.save(ARRAYS, progress, best=False)
    assert path == kept.newest()
    arrays, again = load(path)
    assert again == progress
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_the_newest_two_are_kept(kept):
    assert kept.paths() == []
    for step in (5, 10, 100):
        save(kept, step)
    assert names(kept) == ["step-00000010.npz", "step-00000100.npz"]
    assert [path.name for path in kept.paths()] == names(kept)
    assert load(kept.newest())[1].step == 100


def test_the_best_is_kept_beside_them(kept):
    save(kept, 5, best=True)
    for step in (10, 15, 20):
        save(kept, step)
    assert names(kept) == ["best.npz", "step-00000015.npz", "step-00000020.npz"]
    assert load(kept.best_path)[1].step == 5
    save(kept, 25, best=True)
    assert load(kept.best_path)[1].step == 25
    assert names(kept) == ["best.npz", "step-00000020.npz", "step-00000025.npz"]


def test_writing_a_step_again_leaves_the_best_as_it_was(kept):
    save(kept, 5, best=True)
    kept.save({"step": np.int64(-1)}, Progress(step=5), best=False)
    assert load(kept.best_path)[0]["step"] == 5
    assert load(kept.newest())[0]["step"] == -1


def test_the_best_takes_no_space_of_its_own(kept):
    path = save(kept, 5, best=True)
    assert path.samefile(kept.best_path)


def test_without_hard_links_the_best_is_a_copy(kept, monkeypatch):
    monkeypatch.setattr(os, "link", fail)
    path = save(kept, 5, best=True)
    assert not path.samefile(kept.best_path)
    assert kept.best_path.read_bytes() == path.read_bytes()
    assert names(kept) == ["best.npz", "step-00000005.npz"]


def test_other_files_are_left_alone(kept):
    kept.folder.mkdir()
    for name in ("notes.txt", "step-1.npz", "step-00000001.npz.bak", ".step-00000002.npz.partial"):
        (kept.folder / name).write_text("")
    for step in (1, 2, 3):
        save(kept, step)
    assert [path.name for path in kept.paths()] == ["step-00000002.npz", "step-00000003.npz"]
    assert {"notes.txt", "step-1.npz", "step-00000001.npz.bak"} < set(names(kept))


@pytest.mark.parametrize("place", ["write", "fsync", "replace", "open", "mkdir", "unlink"])
@pytest.mark.parametrize("best", [False, True])
def test_a_refusing_disk_leaves_the_earlier_ones(kept, place, best):
    save(kept, 5, best=True)
    save(kept, 10)
    before = {name: (kept.folder / name).read_bytes() for name in names(kept)}
    owner = {"write": np, "fsync": os, "replace": os}.get(place, Path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "savez" if place == "write" else place, fail)
        with pytest.raises(RunDirError) as caught:
            save(kept, 15, best=best)
    assert "cannot be written: No space left on device." in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, content in before.items():
        # Where only the clearing up failed, the new one is whole, and may be the best.
        if place != "unlink" or name != "best.npz":
            assert (kept.folder / name).read_bytes() == content
    for name in names(kept):
        load(kept.folder / name)
    if place != "unlink":
        assert names(kept) == sorted(before)


def test_a_disk_that_refuses_the_best_leaves_the_best_before(kept, monkeypatch):
    save(kept, 5, best=True)
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: fail() if Path(b).name == "best.npz" else replace(a, b)
    )
    with pytest.raises(RunDirError, match=r"best\.npz cannot be written: No space"):
        save(kept, 10, best=True)
    assert load(kept.best_path)[1].step == 5
    assert names(kept) == ["best.npz", "step-00000005.npz", "step-00000010.npz"]


def test_no_checkpoint_is_refused(kept):
    said = f"{kept.folder} holds no checkpoint: the run ended before its first"
    for _ in range(2):
        with pytest.raises(RunDirError) as caught:
            kept.newest()
        assert str(caught.value) == said
        kept.folder.mkdir(exist_ok=True)


def test_an_absent_checkpoint_is_refused(kept):
    with pytest.raises(RunDirError) as caught:
        load(kept.best_path)
    assert str(caught.value) == f"{kept.best_path} cannot be read: No such file or directory"


def refused(path):
    with pytest.raises(RunDirError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_truncated_checkpoint_is_refused(kept):
    path = kept.save(ARRAYS, Progress(), best=False)
    content = path.read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        assert "is damaged: " in refused(path)


def test_a_damaged_checkpoint_is_refused_or_read_as_it_was(kept):
    """A flipped byte of the data is found by its checksum; zip also has bytes without a meaning."""
    path = kept.save(ARRAYS, Progress(step=3), best=False)
    content = path.read_bytes()
    kernel = ARRAYS["model/stem/kernel"]
    data = content.index(kernel.tobytes())
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        if data <= place < data + kernel.nbytes:
            assert "is damaged: " in refused(path)
        with contextlib.suppress(RunDirError):
            arrays, progress = load(path)
            assert progress == Progress(step=3)
            for name in set(arrays) & set(ARRAYS):
                np.testing.assert_array_equal(arrays[name], ARRAYS[name])


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"progress": np.frombuffer(b"{", np.uint8)},
        {"progress": np.frombuffer(b"[]", np.uint8)},
        {"progress": np.frombuffer(b'{"stop": 1}', np.uint8)},
        {"progress": np.frombuffer(b"\xff\xff", np.uint8)},
    ],
)
def test_arrays_that_are_no_checkpoint_are_refused(tmp_path, content):
    path = tmp_path / "step-00000001.npz"
    np.savez(path, model=np.ones(3), **content)
    assert "is not a checkpoint: " in refused(path)


def test_a_progress_from_before_a_field_existed_has_its_default(tmp_path):
    path = tmp_path / "old.npz"
    np.savez(path, progress=np.frombuffer(b'{"step": 9}', np.uint8))
    assert load(path)[1] == Progress(step=9)


def test_two_are_kept():
    assert checkpoints.KEEP == 2
