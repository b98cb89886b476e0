"""Images of more than 8 bits a value, against their values as NumPy holds them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastcifar.data.sources.decoding import UnreadableImage, decode
from fastcifar.data.sources.image_folder import load_image_folder
from fastcifar.data.sources.ingest import ReadOptions
from tests.data.sources.pngs import png

RNG = np.random.default_rng(0)


def png16(values: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """Encode uint16 [h, w, c] as a PNG of 16 bits, without any library's doing."""
    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return png((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def tiff(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


def random(bits: int, channels: int) -> np.ndarray:
    values = RNG.integers(0, 1 << bits, (5, 7, channels), dtype=np.uint16)
    values[0, 0, 0] = (1 << bits) - 1
    return values


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_upper_8_bits_in_use_are_kept(bits: int, channels: int) -> None:
    values = random(bits, channels)
    expected = (values >> (bits - 8)).astype(np.uint8)
    if channels in (2, 4):
        alpha = expected[..., -1:] / 255
        over_white = expected[..., :-1] * alpha + 255 * (1 - alpha)
        expected = np.round(over_white)
    pixels, _ = decode(png16(values), None)
    wanted = np.broadcast_to(expected, (5, 7, 3)).astype(int)
    assert np.abs(pixels.astype(int) - wanted).max() <= (1 if channels in (2, 4) else 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int16])
@pytest.mark.parametrize("bits", [8, 12])
def test_so_are_those_of_a_tiff(bits: int, dtype: type) -> None:
    values = random(bits, 1)[..., 0].astype(dtype)
    pixels, _ = decode(tiff(values), None)
    assert (pixels == (values >> (bits - 8))[..., None]).all()


def test_alpha_may_use_all_bits_where_colours_use_8() -> None:
    values = np.full((4, 4, 4), 200, dtype=np.uint16)
    values[..., 3] = 65535
    assert (decode(png16(values), None)[0] == 200).all()


def test_a_transparent_value_becomes_white() -> None:
    values = np.full((2, 2, 1), 4095, dtype=np.uint16)
    values[0, 0] = 100
    pixels, _ = decode(png16(values, (b"tRNS", struct.pack(">H", 100))), None)
    assert (pixels == 255).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[-5, 7]], np.int32), "values down to -5"),
        (np.array([[0, 70_000]], np.int32), "values up to 70000, which need more than 16 bits"),
        (np.array([[0.0, 1.0]], np.float32), "floating-point pixels, of no known range"),
    ],
)
def test_values_of_no_known_range_are_refused(values: np.ndarray, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        decode(tiff(values), None)


def write(folder: Path, peaks: dict[str, int]) -> None:
    """Write a 16-bit PNG for each name: 4 × 4 pixels of one value."""
    for name, peak in peaks.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png16(np.full((4, 4, 1), peak, dtype=np.uint16)))


@pytest.mark.parametrize("budget", [None, 1])
def test_one_range_holds_for_a_whole_set(tmp_path: Path, monkeypatch, budget: int | None) -> None:
    """Each image by its own range would make all of these alike, and test unlike train."""
    monkeypatch.setenv("FASTCIFAR_CACHE", str(tmp_path / "cache"))
    train = {"train/a/1.png": 160, "train/a/2.png": 320, "train/b/1.png": 640}
    write(tmp_path / "set", {**train, "test/a/1.png": 1600, "test/b/1.png": 3200})
    options = ReadOptions(memory_budget=budget)
    splits = load_image_folder(str(tmp_path / "set"), options).in_memory()
    assert splits.train.in_memory().images[:, 0, 0, 0].tolist() == [10, 20, 40]
    assert splits.test.in_memory().images[:, 0, 0, 0].tolist() == [100, 200]
    notes = "\n".join(splits.notes)
    assert "5 of 5 images hold more than 8 bits a value, up to 3200: read as 12 bits" in notes


def test_images_that_a_range_leaves_black_are_counted(tmp_path: Path) -> None:
    peaks = {"train/a/1.png": 200, "train/b/1.png": 65535, "test/a/1.png": 255, "test/b/1.png": 9}
    write(tmp_path, peaks)
    assert (
        "so that 3 with small values alone are nearly black"
        in load_image_folder(str(tmp_path)).notes[0]
    )


def test_8_bits_in_16_are_the_same_set_as_8_bits(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        for kind in ("plain", "deep"):
            path = tmp_path / kind / ("train", "test")[index % 2] / "ab"[index // 4]
            path.mkdir(parents=True, exist_ok=True)
            if kind == "plain":
                Image.fromarray(image).save(path / f"{index}.png")
            else:
                (path / f"{index}.png").write_bytes(png16(image.astype(np.uint16)))
    plain, deep = (load_image_folder(str(tmp_path / kind)) for kind in ("plain", "deep"))
    for name in ("train", "test"):
        np.testing.assert_array_equal(getattr(deep, name).images, getattr(plain, name).images)
