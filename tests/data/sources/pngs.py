"""PNG files written chunk by chunk, as no library would write them."""

import struct
import zlib


def chunk(kind: bytes, body: bytes, *, right: bool = True) -> bytes:
    """One chunk, with its checksum or a wrong one."""
    checksum = zlib.crc32(kind + body) ^ (0 if right else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A file of chunks with right checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)
