"""Counts in sentences: `1 step`, `2 steps`, `1,000 images`."""

from __future__ import annotations

_SIBILANTS = ("s", "x", "z", "ch", "sh")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `counted(1, "class")` is "1 class", of 2,000 "2,000 classes".

    Args:
        count: zero or more.
        noun: in the singular, of a regular plural.
    """
    if count == 1:
        return f"1 {noun}"
    hisses = noun.endswith(_SIBILANTS) and not noun.endswith("epoch")
    return f"{count:,} {noun}{'es' if hisses else 's'}"
