"""From files to splits: prepared once, noticed when changed, never half there, within a budget."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.data import prepared, records
from fastcifar.data.records import RecordSplit
from fastcifar.data.sources import decode_pool, delivery, load
from fastcifar.data.sources.image_folder import encoded_set, load_image_folder
from fastcifar.data.sources.ingest import ReadOptions
from fastcifar.data.split import Split, Splits, decoded_bytes
from fastcifar.data.storage import cache_folder
from fastcifar.errors import SourceError

TINY = 1000  # bytes: a budget that no set of these tests fits
RNG = np.random.default_rng(0)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("train", 20), ("test", 4)):
        for number in range(count):
            write(tmp_path / "a set" / name / ("cat", "dog")[number % 2] / f"{number}.png")
    return tmp_path / "a set"


def prepare(folder: Path, **options) -> list[str]:
    given = ReadOptions(**options)
    return delivery.prepare(encoded_set(folder, given), given)


def prepared_folders(cache: Path) -> list[Path]:
    return [path for path in (cache / "prepared").iterdir() if path.is_dir()]


def equal(one: Splits, other: Splits) -> bool:
    assert one.class_names == other.class_names
    pairs = zip(one.in_memory().all(), other.in_memory().all(), strict=True)
    return all(
        a.images.tobytes() == b.images.tobytes() and (a.labels == b.labels).all() for a, b in pairs
    )


def test_a_prepared_set_is_used_without_decoding(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = load_image_folder(str(folder))
    (note,) = prepare(folder)
    (made,) = prepared_folders(cache)
    assert note == f"prepared in {str(made)!r}"
    assert prepare(folder) == [f"prepared already in {str(made)!r}"]
    monkeypatch.setattr(decode_pool, "decode", None)
    again = load_image_folder(str(folder))
    assert equal(again, direct)
    assert again.notes == direct.notes == ()
    monkeypatch.undo()


def test_options_that_change_pixels_are_sets_of_their_own(folder: Path, cache: Path) -> None:
    prepare(folder)
    prepare(folder, storage_size=5)
    prepare(folder, storage_size=5, non_square="pad")
    assert len(prepared_folders(cache)) == 3
    small = load_image_folder(str(folder), ReadOptions(storage_size=5))
    assert small.train.image_shape == (5, 5, 3)
    assert small.notes[0].startswith("24 of 24 images (6×6)")


def test_a_changed_folder_is_noticed_and_said(folder: Path, cache: Path) -> None:
    prepare(folder)
    write(folder / "train/cat/new.png")
    (folder / "train/dog/1.png").unlink()
    (folder / "train/dog/3.png").unlink()
    write(folder / "test/cat/0.png")
    changed = (
        f"{folder} has changed since it was prepared: 1 file added ('train/cat/new.png'), "
        "2 files removed ('train/dog/1.png', …), 1 file changed ('test/cat/0.png')"
    )
    now = load_image_folder(str(folder))
    assert now.notes == (changed,)
    assert len(now.train) == 19
    notes = prepare(folder)
    assert notes[0] == changed
    assert notes[1].startswith("prepared in ")
    assert len(prepared_folders(cache)) == 1  # the old one is gone
    assert load_image_folder(str(folder)).notes == ()
    assert equal(load_image_folder(str(folder)), now)


def rewrite(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change a file's content, and put its time of modification back."""
    before, content = path.stat(), bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def flip(content: bytearray) -> None:
    content[len(content) // 2] ^= 1


def test_another_image_of_equal_size_and_time_is_a_changed_one(folder: Path) -> None:
    path = folder / "train/cat/0.bmp"
    Image.new("RGB", (6, 6), "red").save(path)
    prepare(folder)
    rewrite(path, flip)
    splits = load_image_folder(str(folder))
    assert any("1 file changed ('train/cat/0.bmp')" in note for note in splits.notes)
    shutil.rmtree(prepared_folder := next((cache_folder() / "prepared").glob("*/")))
    assert not prepared_folder.exists()
    assert equal(splits, load_image_folder(str(folder)))


@pytest.mark.parametrize("name", ["images-train*", "labels-train.npy", "digests-test.npy", "files"])
def test_damage_at_equal_size_and_time_is_made_again_and_said(
    folder: Path, cache: Path, name: str
) -> None:
    direct = load_image_folder(str(folder))
    prepare(folder)
    (made,) = prepared_folders(cache)
    (path,) = made.glob(name)
    rewrite(path, flip)
    again = load_image_folder(str(folder))
    assert equal(again, direct)
    assert any(f"is damaged: {path.name} must hold what was" in note for note in again.notes)
    assert f"is damaged: {path.name} must hold what was" in prepare(folder)[0]
    assert load_image_folder(str(folder)).notes == ()


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_are_no_classes_are_refused(folder: Path, cache: Path, label: int) -> None:
    prepare(folder)
    (made,) = prepared_folders(cache)
    np.save(made / "labels-test.npy", np.array([0, 1, 0, label]))
    spoil_manifest(made, seals={})
    with pytest.raises(SourceError, match=rf"must lie in \[0, 2\).*Received: .*{label}") as refused:
        load_image_folder(str(made))
    assert "\n" not in str(refused.value)


def test_a_touched_file_is_a_changed_one(folder: Path) -> None:
    prepare(folder)
    file = folder / "train/cat/0.png"
    later = file.stat().st_mtime_ns + 1
    os.utime(file, ns=(later, later))
    assert "1 file changed ('train/cat/0.png')" in load_image_folder(str(folder)).notes[0]


def test_a_set_beyond_the_budget_stays_on_disk(folder: Path) -> None:
    direct = load_image_folder(str(folder))
    assert isinstance(direct.train, Split)
    large = load_image_folder(str(folder), ReadOptions(memory_budget=TINY))
    assert isinstance(large.train, RecordSplit)
    assert isinstance(large.test, RecordSplit)
    assert large.notes[0].startswith("prepared in ")
    assert equal(large, direct)
    assert load_image_folder(str(folder), ReadOptions(memory_budget=TINY)).notes == ()


@pytest.mark.parametrize(
    ("decoded", "budget", "ok"),
    [
        (10**9, None, True),
        (10**9, 10**9, True),
        (10**9 + 1, 10**9, False),
        (4 * 10**9, 7 * 10**9, True),
        # It fits, but not twice, as it would have to while it is split.
        (6 * 10**9, 7 * 10**9, False),
    ],
)
def test_what_fits(decoded: int, budget: int | None, ok: bool) -> None:
    assert delivery.fits(decoded, budget) is ok


def write_numbered(folder: Path, first_side: int, other_side: int) -> None:
    """Write 600 images that tell their number, of which the first are of another size."""
    for number in range(600):
        side = first_side if number < 270 else other_side
        path = folder / ("a" if number < 300 else "b") / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (side, side), (number % 256, number // 256, 0)).save(path)


def numbers(splits: Splits) -> set[int]:
    images = np.concatenate([split.in_memory().images for split in splits.all()])
    return {256 * int(green) + int(red) for red, green, _ in images[:, 0, 0]}


def test_a_guess_of_the_size_that_was_too_small_ends_on_disk(tmp_path: Path) -> None:
    """The first images, from which the size is guessed, fit into memory; all of them do not."""
    write_numbered(tmp_path, first_side=2, other_side=20)
    seen = []
    options = ReadOptions(memory_budget=100_000, progress=lambda *report: seen.append(report[0]))
    splits = load_image_folder(str(tmp_path), options)
    assert isinstance(splits.train, RecordSplit)
    assert splits.train.image_shape == (20, 20, 3)
    assert seen[0] == seen[-1] == "decoding train"  # once into memory, in vain, and once onto disk
    assert numbers(splits) == set(range(600))


def test_nothing_is_left_of_a_guess_that_was_too_large(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(tmp_path, first_side=20, other_side=2)
    monkeypatch.setattr(records, "_SHARD_BYTES", 50_000)  # several shards, and then one
    prepare(tmp_path)
    (made,) = prepared_folders(cache)
    assert not list(made.glob("*.partial"))
    splits = load_image_folder(str(tmp_path))
    assert splits.train.image_shape == (2, 2, 3)
    assert numbers(splits) == set(range(600))


def test_without_a_test_folder_the_hold_out_is_that_of_memory(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    direct = load_image_folder(str(folder), ReadOptions(seed=3))
    large = load_image_folder(str(folder), ReadOptions(seed=3, memory_budget=TINY))
    assert equal(direct, large)
    assert "held out as test" in large.notes[-1]


def test_synthetic_images_beyond_the_budget_are_drawn_onto_disk() -> None:
    direct = load("synthetic", synthetic_count=100, synthetic_size=16)
    large = load("synthetic", synthetic_count=100, synthetic_size=16, memory_budget=TINY)
    assert isinstance(large.train, RecordSplit)
    assert equal(direct, large)
    other = load("synthetic", synthetic_count=100, synthetic_size=16, memory_budget=TINY, seed=1)
    assert not equal(direct, other)


def test_a_prepared_folder_may_be_named_without_its_images(folder: Path, cache: Path) -> None:
    direct = load_image_folder(str(folder))
    prepare(folder)
    (made,) = prepared_folders(cache)
    carried = folder.parent / "carried"
    shutil.move(made, carried)
    shutil.rmtree(folder)
    assert equal(load_image_folder(str(carried)), direct)
    with pytest.raises(SourceError, match=r"--storage-size must be that of .* 6. Received: 7"):
        load_image_folder(str(carried), ReadOptions(storage_size=7))


def spoil_manifest(made: Path, **values: object) -> None:
    file = made / "prepared.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_prepared_folder_of_another_version_is_refused_or_made_anew(
    folder: Path, cache: Path
) -> None:
    prepare(folder)
    (made,) = prepared_folders(cache)
    spoil_manifest(made, format=99)
    with pytest.raises(SourceError, match=r"must be of format 2\. Received: format 99") as refused:
        load_image_folder(str(made))
    assert "\n" not in str(refused.value)
    notes = prepare(folder)
    assert "format 99" in notes[0]
    assert load_image_folder(str(made)).notes == ()


def truncate(made: Path) -> None:
    (shard,) = made.glob("images-train*")
    shard.write_bytes(shard.read_bytes()[:-1])


def lose_a_shard(made: Path) -> None:
    next(made.glob("images-test*")).unlink()


def no_json(made: Path) -> None:
    (made / "prepared.json").write_text("{")


def no_object(made: Path) -> None:
    (made / "prepared.json").write_text("[]")


def no_counts(made: Path) -> None:
    spoil_manifest(made, counts=None)


def other_labels(made: Path) -> None:
    np.save(made / "labels-train.npy", np.zeros(3, np.int64))
    spoil_manifest(made, seals={})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "is damaged: images-train.* must hold .* bytes. Received: "),
        (lose_a_shard, "cannot be read: .*images-test.*No such file"),
        (no_json, "is damaged: prepared.json is not one"),
        (no_object, "is damaged: prepared.json is not one"),
        (no_counts, "is damaged: prepared.json is not one"),
        (other_labels, "is damaged: labels-train.npy does not fit"),
    ],
)
def test_a_damaged_prepared_folder_is_one_line(
    folder: Path, cache: Path, spoil, message: str
) -> None:
    prepare(folder)
    (made,) = prepared_folders(cache)
    spoil(made)
    with pytest.raises(SourceError, match=message) as refused:
        load_image_folder(str(made))
    assert "\n" not in str(refused.value)


def test_unreadable_files_are_left_out_of_a_prepared_set_only_on_demand(folder: Path) -> None:
    (folder / "train/cat/bad.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"1 unreadable image: 'train/cat/bad\.png'"):
        prepare(folder)
    prepare(folder, skip_unreadable=True)
    splits = load_image_folder(str(folder), ReadOptions(skip_unreadable=True))
    assert len(splits.train) == 20
    assert splits.notes == ("1 unreadable image skipped: 'train/cat/bad.png' (an empty file)",)
    with pytest.raises(SourceError, match=r"1 unreadable image: 'train/cat/bad\.png'"):
        load_image_folder(str(folder))  # without leave, preparing has not given it


@pytest.mark.parametrize("error", [KeyboardInterrupt, SourceError])
def test_an_interrupted_preparation_leaves_nothing(
    folder: Path, cache: Path, error: type[BaseException]
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "decoding test":
            raise error

    with pytest.raises(error):
        prepare(folder, progress=interrupt)
    assert prepared_folders(cache) == []
    assert prepare(folder)[0].startswith("prepared in ")


_KILLED = """
import os, signal, sys
from pathlib import Path
from fastcifar.data.sources import delivery
from fastcifar.data.sources.image_folder import encoded_set
from fastcifar.data.sources.ingest import ReadOptions

def die(what, done, total):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    options = ReadOptions(workers=2, progress=die)
    delivery.prepare(encoded_set(Path(sys.argv[1]), options), options)
"""


def test_a_killed_preparation_is_cleared_away(folder: Path, cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    run = subprocess.run([sys.executable, script, folder], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (left,) = prepared_folders(cache)
    assert ".partial-" in left.name
    assert prepared.holds_prepared(left) is False
    prepare(folder)
    (made,) = prepared_folders(cache)
    assert made != left
    assert prepared.holds_prepared(made)


_OTHER = """
import sys
from collections.abc import Callable
from pathlib import Path
from fastcifar.data.sources import delivery
from fastcifar.data.sources.image_folder import encoded_set
from fastcifar.data.sources.ingest import ReadOptions

options = ReadOptions(progress=lambda *report: print(report[0], flush=True))
print(*delivery.prepare(encoded_set(Path(sys.argv[1]), options), options))
"""


def test_of_two_processes_one_prepares_and_one_waits(folder: Path, cache: Path) -> None:
    """The other process starts, and waits, while this one is in the middle of its work."""
    others: list[subprocess.Popen] = []

    def start_the_other(what: str, done: int, total: int) -> None:
        if not others:
            command = [sys.executable, "-c", _OTHER, str(folder)]
            others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert others[0].stdout is not None
            assert others[0].stdout.readline().startswith("waiting for another process")

    (note,) = prepare(folder, progress=start_the_other)
    assert note.startswith("prepared in ")
    said, _ = others[0].communicate(timeout=60)
    assert said.startswith("prepared already in ")
    assert len(prepared_folders(cache)) == 1


def test_a_disk_that_refuses_is_one_line(folder: Path, cache: Path) -> None:
    (cache / "prepared").write_text("in the way")
    with pytest.raises(SourceError, match="FASTCIFAR_CACHE") as refused:
        prepare(folder)
    assert "\n" not in str(refused.value)


def test_a_worker_that_dies_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "_decode_block", _die)
    with pytest.raises(SourceError, match="a process that decodes images was ended from outside"):
        prepare(folder, workers=2)


def _die(task: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_decoded_bytes_are_those_of_memory(folder: Path) -> None:
    splits = load_image_folder(str(folder))
    assert decoded_bytes(splits.train) == splits.in_memory().train.in_memory().images.nbytes
