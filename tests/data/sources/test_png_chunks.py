"""PNG files with metadata that Pillow refuses; the reference is TensorFlow's decoder."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fastcifar.data.sources.decoding import UnreadableImage, decode, measure
from tests.data.sources.pngs import chunk

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
BUFFER = io.BytesIO()
Image.fromarray(PIXELS).save(BUFFER, "PNG")
PNG = BUFFER.getvalue()
HEAD, DATA, END = PNG[:33], PNG[33:-12], PNG[-12:]
LARGE = b"note\0\0" + zlib.compress(b"x" * 3_000_000)
TEXT = b"note\0" + b"x" * 2_000_000

ODD = {
    "a large compressed text": chunk(b"zTXt", LARGE),
    "a large text": chunk(b"tEXt", TEXT),
    "many texts": 70 * chunk(b"zTXt", b"n\0\0" + zlib.compress(b"x" * 1_000_000)),
    "a text with a wrong checksum": chunk(b"tEXt", b"note\0x", right=False),
    "a time with a wrong checksum": chunk(b"tIME", b"\x07\xe8\1\1\1\1\1", right=False),
    "an unknown chunk with a wrong checksum": chunk(b"abCd", b"12", right=False),
    "a text that is none": chunk(b"zTXt", b"note\0\0not compressed"),
    "a colour profile that is none": chunk(b"iCCP", b"name\0\0not compressed"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("behind", [False, True])
def test_odd_metadata_is_left_out_as_tensorflow_does(odd: str, behind: bool) -> None:
    encoded = HEAD + DATA + ODD[odd] + END if behind else HEAD + ODD[odd] + DATA + END
    np.testing.assert_array_equal(tf.io.decode_png(encoded, channels=3), PIXELS)
    np.testing.assert_array_equal(decode(encoded, 5)[0], PIXELS)
    assert measure(encoded) == (5, 5)


def test_a_wrong_checksum_of_what_counts_is_named() -> None:
    damaged = HEAD[:-1] + bytes([HEAD[-1] ^ 1])
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_png(damaged + DATA + END)
    with pytest.raises(UnreadableImage, match="damaged: a wrong checksum in its chunk IHDR"):
        decode(damaged + DATA + END, 5)


@pytest.mark.parametrize("metadata", [b"", ODD["a large text"]])
def test_what_is_cut_short_is_refused(metadata: bytes) -> None:
    with pytest.raises(UnreadableImage, match="truncated or damaged"):
        decode(HEAD + metadata + DATA[: len(DATA) // 2], 5)
