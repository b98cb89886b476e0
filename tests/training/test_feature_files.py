"""Features on disk: found again, computed anew where anything differs, whole or not at all."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.data import storage
from fastcifar.data.checksums import Damaged
from fastcifar.data.records import RecordWriter, open_split
from fastcifar.data.split import Split
from fastcifar.errors import SourceError
from fastcifar.training import feature_files, feature_key, phase
from fastcifar.training.feature_cache import FeatureCache
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display
from fastcifar.training.trainer import train
from tests.training.test_feature_cache import Lines, of_head

pytestmark = pytest.mark.usefixtures("two_stages")

KEY = {"images": "some", "weights": "a", "views": 2}
BFLOAT16 = tf.bfloat16.as_numpy_dtype
SHAPE = (2, 3, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the features, in a cache folder of the test's own."""
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def values(dtype="float32"):
    return np.arange(24).reshape(SHAPE).astype(dtype)


def write(key, dtype="float32"):
    blocks = values(dtype).reshape(6, 4)
    return feature_files.write(key, SHAPE, dtype, iter([blocks[:4], blocks[4:]]))


@pytest.mark.parametrize("dtype", ["float32", "float16", BFLOAT16])
def test_what_is_written_is_found(folder, dtype):
    assert feature_files.find(KEY, SHAPE, dtype) is None
    for mapped in (write(KEY, dtype), feature_files.find(KEY, SHAPE, dtype)):
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, values(dtype))
    assert {path.suffix for path in folder.iterdir()} == {".bin", ".json"}


def test_what_is_not_whole_is_not_found(folder):
    write(KEY)
    path = feature_files.path_of(KEY)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"must hold 96 bytes\. Received: 95"):
        feature_files.find(KEY, SHAPE, "float32")
    np.testing.assert_array_equal(write(KEY), values())
    for text in ("", "[]", '{"images": "some"}'):
        path.with_suffix(".json").write_text(text)
        assert feature_files.find(KEY, SHAPE, "float32") is None


def test_what_differs_from_those_used_last_is_named():
    assert feature_files.changed_parts(KEY) == []
    other = {**KEY, "weights": "b"}
    for key, seconds in ((KEY, 1), (other, 2), ({**KEY, "images": "others"}, 3)):
        write(key)
        os.utime(feature_files.path_of(key).with_suffix(".json"), (seconds, seconds))
    now = {**KEY, "weights": "b", "views": 1}
    assert feature_files.changed_parts(now) == ["views"]
    feature_files.find(KEY, SHAPE, "float32")  # used last now
    assert feature_files.changed_parts(now) == ["weights", "views"]


def test_those_used_last_are_kept(folder):
    keys = [{**KEY, "weights": str(i)} for i in range(6)]
    for seconds, key in enumerate(keys):
        write(key)
        os.utime(feature_files.path_of(key).with_suffix(".json"), (seconds, seconds))
    kept = {path.stem for path in folder.iterdir()}
    assert kept == {feature_files.path_of(key).stem for key in keys[2:]}


def test_what_fails_half_way_leaves_nothing(folder):
    def blocks():
        yield values().reshape(6, 4)[:4]
        raise KeyError

    with pytest.raises(KeyError):
        feature_files.write(KEY, SHAPE, "float32", blocks())
    assert list(folder.iterdir()) == []


def test_a_disk_that_refuses_is_one_line(tmp_path, monkeypatch, folder):
    with pytest.raises(SourceError, match=r"GB are needed, .*--feature-cache memory") as caught:
        feature_files.write(KEY, (2, 10**6, 10**9), "float32", iter([]))
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"cannot write .*FASTCIFAR_CACHE"):
        write(KEY)


def some_split(labels=(0, 1)):
    images = storage.empty_images((2, 8, 8, 3))
    images[:] = 7
    return Split(images, np.array(labels), ("a", "b"))


def test_the_digest_tells_splits_apart(tmp_path):
    digest = feature_key.digest_of_data
    assert digest(some_split()) == digest(some_split())
    assert digest(some_split()) != digest(some_split((1, 0)))
    other = some_split()
    other.images[0, 0, 0, 0] = 8
    assert digest(some_split()) != digest(other)
    # What is on disk has the digest of what is in memory, wherever and since whenever it is there.
    other = some_split()
    other.images[0, 0, 0, 0] = 9
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        writer = RecordWriter(folder, "train", count=2, size=8)
        writer.add(other.images, other.labels)
        on_disk = open_split(folder, "train", writer.close(), size=8, class_names=other.class_names)
        assert digest(on_disk) == digest(other)
        assert digest(on_disk.take(np.array([1, 0]))) != digest(other)


@pytest.fixture
def describe(monkeypatch):
    """Return configuration -> the key of the features of its training images."""
    computed = lambda self, what, key, shape, blocks: np.zeros(shape, np.float32)  # noqa: E731
    monkeypatch.setattr(FeatureCache, "_values", computed)

    def describe(config):
        prepared = prepare(config, Display(quiet=True))
        cache = FeatureCache(prepared.config, prepared, Display(quiet=True))
        cache.of(phase.plan(prepared.config, prepared)[0])
        return cache._kept["training"][0]

    return describe


def test_every_part_that_matters_is_in_the_key(describe):
    base = of_head(phase={"augment": "flip"})
    key = describe(base)
    for part, changes in {
        "weights": {"seed": 1},
        "normalisation": {"model": {"normalise": "unit"}},
        "image size": {"phase": {"image_size": 8}},
        "resize method": {"model": {"resize_method": "nearest"}},
        "augmentation": {"phase": {"augment": "flip-crop"}},
        "views": {"data": {"feature_views": 1}},
        "network": {"model": {"stride_version": "v1.5"}},
        "compute dtype": {"runtime": {"precision": "mixed_bfloat16"}},
        "layout": {"data": {"augment_on": "host", "resize_on": "host"}},
        "images": {"data": {"limit_train": 100}},
    }.items():
        changes = {"phase": {}, **changes}
        changes["phase"] = {"augment": "flip", **changes["phase"]}
        other = describe(of_head(**changes))
        differing = {name for name in key if key[name] != other[name]}
        assert part in differing, part
        assert differing <= {part, "seed", "images"} if part == "weights" else {part}, part


def test_what_does_not_matter_is_not(describe):
    key = describe(of_head())
    for changes in (
        {"phase": {"learning_rate": 1e-5, "epochs": 3}},
        {"model": {"dropout": 0.0, "head": "mlp"}},
        {"global_batch_size": 8},
        {"optimizer": {"accumulate": 2}},
    ):
        size = changes.pop("global_batch_size", 16)
        config = dataclasses.replace(of_head(**changes), global_batch_size=size)
        assert describe(config) == key, changes


def test_damaged_ones_are_computed_again_and_said(tmp_path, folder):
    first = train(of_head(cache="disk"), str(tmp_path / "first"))
    for path in folder.glob("*.bin"):
        stamp = path.stat()
        path.write_bytes(bytes(stamp.st_size))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    lines = Lines()
    again = train(of_head(cache="disk"), str(tmp_path / "again"), display=lines)
    assert again["weights_sha256"] == first["weights_sha256"]
    told = "those kept are damaged, so they are computed again"
    assert sum(told in line for line in lines.about_features()) == 2


@pytest.mark.slow
def test_the_next_run_reads_them_and_tells_what_changed(tmp_path):
    runs = {}
    for name, changes in (
        ("first", {}),
        ("second", {"phase": {"learning_rate": 1e-4}}),
        ("resized", {"model": {"resize_method": "nearest"}, "phase": {"image_size": 8}}),
        ("again", {}),
    ):
        lines = Lines()
        summary = train(of_head(cache="disk", **changes), str(tmp_path / name), display=lines)
        runs[name] = (summary["weights_sha256"], lines.about_features())
    assert runs["first"][0] == runs["again"][0]
    assert all("images/s" in line for line in runs["first"][1])
    for name in ("second", "again"):
        assert all(": found in " in line for line in runs[name][1]), name
    told = "those kept were computed with other image size, resize method, so they are computed"
    assert sum(told in line for line in runs["resized"][1]) == 2
    in_memory = train(of_head(), str(tmp_path / "memory"))
    assert in_memory["weights_sha256"] == runs["first"][0]
