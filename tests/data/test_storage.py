"""How images are kept: shared memory, a mapped file, lossless encoding."""

import numpy as np
import pytest
import tensorflow as tf

from fastcifar.data import storage
from fastcifar.errors import SourceError

RNG = np.random.default_rng(0)


def some_images(count=5):
    images = storage.empty_images((count, 8, 8, 3))
    images[:] = RNG.integers(0, 256, images.shape)
    return images


def test_tensor_shares_the_memory():
    images = some_images()
    tensor = storage.tensor(images)
    assert tensor.dtype == tf.uint8
    assert np.asarray(memoryview(tensor)).ctypes.data == images.ctypes.data


@pytest.mark.parametrize("offset", [0, 1, 16])
def test_unaligned_images_are_usable(offset):
    """TensorFlow's kernels abort the process on a tensor that is not aligned."""
    buffer = RNG.integers(0, 256, 5 * 192 + 64 + offset, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    images = buffer[start : start + 5 * 192].reshape(5, 8, 8, 3)
    gathered = tf.gather(storage.tensor(images), [3, 0])
    np.testing.assert_array_equal(gathered, images[[3, 0]])


def test_disk_holds_the_same_bytes_and_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))
    images = some_images()
    mapped = storage.on_disk(images)
    np.testing.assert_array_equal(mapped, images)
    np.testing.assert_array_equal(tf.gather(storage.tensor(mapped), [4, 1]), images[[4, 1]])
    (file,) = (tmp_path / "decoded").iterdir()
    written = file.stat().st_mtime_ns
    storage.on_disk(images)
    assert file.stat().st_mtime_ns == written


def test_a_truncated_file_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))
    images = some_images()
    storage.on_disk(images)
    (file,) = (tmp_path / "decoded").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(storage.on_disk(images), images)


def test_a_file_damaged_at_equal_size_is_written_again_and_said(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path))
    images, lines = some_images(), []
    storage.on_disk(images, lines.append)
    assert lines == []
    (file,) = (tmp_path / "decoded").iterdir()
    file.write_bytes(bytes(images.nbytes))
    np.testing.assert_array_equal(storage.on_disk(images, lines.append), images)
    (line,) = lines
    assert line == f"the decoded images in {file} were damaged; they are written again"
    assert file.read_bytes() == images.tobytes()


def test_a_disk_that_refuses_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SourceError, match="FASTCIFAR_CACHE") as caught:
        storage.on_disk(some_images())
    assert "\n" not in str(caught.value)


def test_encoding_is_lossless():
    images = some_images()
    encoded = storage.encode(images)
    assert encoded.dtype == tf.string
    decoded = np.stack([tf.io.decode_png(png) for png in encoded])
    np.testing.assert_array_equal(decoded, images)
