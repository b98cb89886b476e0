"""What messages and names look like when they are shown."""

from __future__ import annotations

import pytest

from fastcifar.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name_1", "plain name_1"),
        ("café 猫 🐈", "café 猫 🐈"),
        ("red\x1b[31m", r"red\x1b[31m"),  # a terminal would change its colour
        ("two\nlines\t", r"two\nlines\t"),
        ("\x9b2J", r"\x9b2J"),  # the one-byte form of ESC [
        ("caf\udce9", r"caf\udce9"),  # a file name that is not UTF-8, as Python reads it
        ("a\u202eb\u200b", r"a\u202eb\u200b"),  # writes backwards; takes no room
        ("cat\xa0", r"cat\xa0"),  # a no-break space
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown
