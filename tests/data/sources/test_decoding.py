"""What becomes of each kind of image file, readable or not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastcifar.data.sources.decoding import NonSquare, UnreadableImage, decode, fit, measure


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_claiming(width: int, height: int) -> bytes:
    """A tiny PNG whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def test_rgb_png_comes_back_as_it_was() -> None:
    image = noise(5, 5)
    pixels, shape = decode(encode(image), 5)
    np.testing.assert_array_equal(pixels, np.asarray(image))
    assert shape == (5, 5)


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        pytest.param(Image.new("L", (4, 4), 90), "PNG", (90, 90, 90), id="grey"),
        pytest.param(Image.new("L", (4, 4), 90), "JPEG", (90, 90, 90), id="grey-jpeg"),
        pytest.param(Image.new("1", (4, 4), 1), "PNG", (255, 255, 255), id="one-bit"),
        pytest.param(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0), id="cmyk"),
        pytest.param(
            Image.fromarray(np.full((4, 4), 0x80FF, dtype=np.uint16)),
            "PNG",
            (128,) * 3,
            id="16-bit",
        ),
        pytest.param(
            Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4), "PNG", (10, 200, 30), id="palette"
        ),
        pytest.param(
            Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG", (255, 255, 255), id="transparent"
        ),
        pytest.param(
            Image.new("RGBA", (4, 4), (0, 100, 200, 51)), "PNG", (204, 224, 244), id="alpha"
        ),
        pytest.param(Image.new("LA", (4, 4), (0, 51)), "PNG", (204,) * 3, id="grey-alpha"),
        pytest.param(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", (1, 2, 3), id="1x1"),
        pytest.param(Image.new("RGB", (4, 4), (1, 2, 3)), "BMP", (1, 2, 3), id="bmp"),
        pytest.param(Image.new("RGB", (4, 4), (1, 2, 3)), "TIFF", (1, 2, 3), id="tiff"),
        pytest.param(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0), id="tiff-k"),
        pytest.param(Image.new("RGB", (4, 4), (90, 90, 90)), "WEBP", (90, 90, 90), id="webp"),
        pytest.param(Image.new("RGB", (4, 4), (10, 200, 30)), "GIF", (10, 200, 30), id="gif"),
    ],
)
def test_every_readable_kind_becomes_rgb(
    image: Image.Image, form: str, expected: tuple[int, int, int]
) -> None:
    pixels, shape = decode(encode(image, form), 4)
    assert pixels.shape == (4, 4, 3)
    assert pixels.dtype == np.uint8
    assert shape == (image.height, image.width)
    assert np.abs(pixels.astype(int) - expected).max() <= 2  # JPEG and compositing round


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    pixels, _ = decode(encode(image, transparency=0), 4)
    assert (pixels == 255).all()


def test_other_shapes_are_cropped_at_the_centre() -> None:
    image = Image.new("RGB", (12, 4), "red")
    image.paste("blue", (4, 0, 8, 4))
    for turned in (image, image.transpose(Image.Transpose.ROTATE_90)):
        pixels, shape = decode(encode(turned), 4)
        assert (pixels == (0, 0, 255)).all()
        assert shape == (turned.height, turned.width)


def test_padding_keeps_the_whole_image() -> None:
    image = Image.new("RGB", (12, 4), "red")
    image.paste("blue", (4, 0, 8, 4))
    pixels, shape = decode(encode(image), 12, "pad")
    assert shape == (4, 12)
    np.testing.assert_array_equal(pixels[4:8], np.asarray(image))
    assert (pixels[:4] == 0).all()
    assert (pixels[8:] == 0).all()
    turned, _ = decode(encode(image.transpose(Image.Transpose.ROTATE_90)), 6, "pad")
    assert (turned[:, :2] == 0).all()
    assert (turned[:, 4:] == 0).all()
    assert turned[:, 2:4].any()
    sliver, _ = decode(encode(Image.new("RGB", (1000, 1), "red")), 8, "pad")
    assert (sliver[3] == (255, 0, 0)).all()


@pytest.mark.parametrize("non_square", ["crop", "pad"])
def test_pixels_are_fitted_as_files_are(non_square: NonSquare) -> None:
    image = noise(9, 14)
    expected, _ = decode(encode(image), 6, non_square)
    np.testing.assert_array_equal(fit(np.asarray(image), 6, non_square), expected)
    grey = np.asarray(image)[..., 0]
    np.testing.assert_array_equal(fit(grey, 9)[..., 0], fit(grey, 9)[..., 2])
    assert fit(grey, 9).shape == (9, 9, 3)


def test_shrinking_averages() -> None:
    """Bilinear without antialias would skip pixels and keep a checkerboard's contrast."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels, _ = decode(encode(Image.fromarray(board)), 8)
    assert np.abs(pixels.astype(int) - 127).max() <= 3


def test_none_keeps_the_size() -> None:
    pixels, shape = decode(encode(noise(3, 7)), None)
    assert pixels.shape == (3, 7, 3)
    assert shape == (3, 7)


jpeg, png = encode(noise(32, 32), "JPEG"), encode(noise(32, 32))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        pytest.param(b"", "an empty file", id="empty"),
        pytest.param(b"<html>not found</html>", "not an image", id="html"),
        pytest.param(jpeg[:10], "not an image", id="jpeg-head"),
        pytest.param(jpeg[: len(jpeg) // 2], "truncated or damaged", id="half-a-jpeg"),
        pytest.param(png[: len(png) // 2], "truncated or damaged", id="half-a-png"),
        pytest.param(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image", id="eps"
        ),
        pytest.param(png_claiming(30_000, 30_000), "more than 67108864 pixels", id="30000"),
        pytest.param(
            encode(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point pixels", id="float"
        ),
        pytest.param(png_claiming(9_000, 9_000), "more than 67108864 pixels", id="9000"),
    ],
)
def test_unusable_bytes_are_named(encoded: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        decode(encoded, 32)


def test_measure_reads_the_header_alone() -> None:
    assert measure(png_claiming(300, 200)) == (200, 300)
    with pytest.raises(UnreadableImage, match="pixels"):
        measure(png_claiming(30_000, 30_000))
