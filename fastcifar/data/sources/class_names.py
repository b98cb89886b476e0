"""Names of classes that a person would take for one, and in which order classes stand."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from fastcifar.errors import SourceError

# Zero-width characters and the byte order mark: nobody sees them.
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?", re.ASCII)


def bare(text: str) -> str:
    """Return a text without blanks (of any kind) and byte order marks at its ends."""
    return text.strip().strip("\ufeff\u200b").strip()


def folded(name: str) -> str:
    """Return what is the same for names that a person reads as one.

    Case, Unicode's composition (NFC), blanks and what is invisible do not count, nor how a whole
    number is written. Each part of a path counts by itself.

    >>> folded("Cat ") == folded("cat"), folded("01") == folded("1.0"), folded("1.10")
    (True, True, '1.10')
    """
    return "/".join(map(_folded_part, name.split("/")))


def _folded_part(part: str) -> str:
    text = unicodedata.normalize("NFC", part.translate(_INVISIBLE))
    text = " ".join(unicodedata.normalize("NFC", text.casefold()).split())
    number = _WHOLE.fullmatch(text)
    return number[1].strip("+") + number[2] if number else text


def check_distinct(places: Mapping[str, str]) -> None:
    """Refuse names of classes that differ in nothing a person sees.

    Args:
        places: where each name stands, such as a folder's path or a line.

    Raises:
        SourceError: naming two.
    """
    seen: dict[str, str] = {}
    for name, place in places.items():
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise SourceError(
                "class names must differ in more than case, blanks, the encoding of letters and "
                f"how a number is written. Received: {shown(other)} ({places[other]}) and "
                f"{shown(name)} ({place}): if they are one class, write it one way"
            )


def shown(name: str) -> str:
    """Return a name in quotes, its letters escaped where they are not the usual composition."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def check_parents(names: Collection[str]) -> None:
    """Refuse paths of classes that end in the same names under two parents.

    One name may be shared (`fruit/other`, `birds/other`); two, or all of a folder's beside the
    other, look like splits, folds or sites of the same classes.

    Raises:
        SourceError: naming the parents and what they share.
    """
    children: dict[str, set[str]] = {}
    parents: dict[str, list[str]] = {}
    for name in names:
        parent, _, child = name.rpartition("/")
        children.setdefault(parent, set()).add(folded(child))
        parents.setdefault(folded(child), []).append(parent)
    shared = Counter(pair for group in parents.values() for pair in combinations(group, 2))
    for (one, other), count in shared.items():
        within = f"{one}/".startswith(f"{other}/") or not (one and other)
        fewer = min(len(children[one]), len(children[other]))
        if count >= 2 or (count == fewer and not within):
            both = sorted(children[one] & children[other])
            what = ", ".join(map(repr, both[:3])) + (" and more" if count > 3 else "")
            raise SourceError(
                "class folders must not end in the same names under two folders, which look like "
                f"splits rather than classes. Received: {what} both in {one or '.'!r} and in "
                f"{other or '.'!r}. If these are splits, name them train, test and validation; if "
                "they are classes, give each folder a name of its own"
            )


def without_common_end(names: Collection[str]) -> dict[str, str]:
    """Return what to call each class: `cat/images`, `dog/images` are `cat` and `dog`."""
    ends = {name.rpartition("/")[2] for name in names}
    common = len(ends) == 1 < len(names) and all("/" in name for name in names)
    return {name: name.rpartition("/")[0] if common else name for name in names}


def order_notes(names: Sequence[str]) -> tuple[str, ...]:
    """Say so where the classes are numbers and sort as text, not by their size."""
    try:
        by_size = sorted(names, key=float)
    except ValueError:
        return ()
    if by_size == list(names):
        return ()
    label = next(index for index, name in enumerate(names) if name != by_size[index])
    return (
        f"the classes are numbers but stand in the order of text, {_start(names)}: label {label} "
        f"is class {names[label]!r}",
    )


def _start(names: Iterable[str], count: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", …" if len(listed) > count else "")
