"""What of a PNG file decides about its pixels, for files whose metadata a decoder stumbles over.

Pillow refuses a whole file for a text of more than 1 MB or for a wrong checksum in metadata, where
libpng, and so TensorFlow, leaves such chunks out.
"""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class WrongChecksum(Exception):
    """A chunk that the pixels depend on is damaged; the message names it."""


def without_metadata(png: bytes) -> bytes:
    """Return a PNG file without the chunks that its pixels do not depend on.

    Critical chunks stay, and `tRNS` (transparency) where its checksum is right. What is cut short
    stays so.

    Raises:
        WrongChecksum: if the checksum of a critical chunk is wrong.
    """
    parts, start = [SIGNATURE], len(SIGNATURE)
    while start + 8 <= len(png):
        kind = png[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        whole = end <= len(png)
        # A capital first letter (bit 5 is not set) says critical.
        critical = not kind[0] & 0x20
        right = whole and zlib.crc32(png[start + 4 : end - 4]) == int.from_bytes(
            png[end - 4 : end], "big"
        )
        if critical and whole and not right:
            raise WrongChecksum(f"a wrong checksum in its chunk {kind.decode('latin-1')}")
        if critical or (kind == b"tRNS" and right):
            parts.append(png[start:end])
        start = end
    return b"".join(parts)
