"""A folder of images as it lies on disk: names, sizes and times, read where they are needed.

Files count by their suffix, in any case. Hidden files and folders do not count, nor do those that
archives and file servers leave behind (`__MACOSX`). Links may lead anywhere inside the folder, but
not out of it and not in a circle: what is trained on is what is there.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastcifar.data.prepared import FileStamp
from fastcifar.errors import SourceError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# Left behind by macOS' archiver, Synology, Windows and ext4; nobody means them.
_LEFT_BEHIND = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")


def stamp(root: Path, relative: str) -> FileStamp:
    """Return the stamp of a file; of one that cannot be looked at, size and time are -1."""
    try:
        status = os.stat(root / relative)
    except OSError:
        return FileStamp(relative, -1, -1)
    return FileStamp(relative, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def leaves(real_root: str, path: str) -> bool:
    """Whether a path leads out of the folder `real_root` (whose own links are resolved)."""
    return os.path.commonpath([real_root, os.path.realpath(path)]) != real_root


class _Entries(NamedTuple):
    images: list[FileStamp]
    folders: list[Folder]
    others: list[str]


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder and, once it is asked for, what it holds.

    Attributes:
        path: where it is.
        relative: its path from the root, "" for the root itself.
        real_root: the root, with its own links resolved.
        above: real paths of the folders on the way down.
    """

    path: str
    relative: str
    real_root: str
    above: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path; "" for the root."""
        return self.relative.rpartition("/")[2]

    @property
    def images(self) -> list[FileStamp]:
        """Files that count as images, here and not below."""
        return self._entries.images

    @property
    def folders(self) -> list[Folder]:
        """The folders that count, by name."""
        return self._entries.folders

    @property
    def others(self) -> list[str]:
        """Relative paths of the files that are no images."""
        return self._entries.others

    @functools.cached_property
    def holds_images(self) -> bool:
        """Whether there is an image here or anywhere below."""
        return bool(self.images) or any(folder.holds_images for folder in self.folders)

    def holding(self) -> list[Folder]:
        """Return the folders inside that hold images, at any depth."""
        return [folder for folder in self.folders if folder.holds_images]

    def walk(self) -> Iterator[Folder]:
        """Yield the folders below, each before what is inside it."""
        for folder in self.folders:
            yield folder
            yield from folder.walk()

    @functools.cached_property
    def _entries(self) -> _Entries:
        real = os.path.realpath(self.path)
        if real in self.above:
            raise SourceError(
                f"links in --data-path must not lead in a circle. Received: {self.path!r}, which "
                f"leads back to {real!r}"
            )
        found = _Entries([], [], [])
        with os.scandir(self.path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name.lower() in _LEFT_BEHIND:
                    continue
                relative = f"{self.relative}/{entry.name}" if self.relative else entry.name
                if entry.is_symlink() and leaves(self.real_root, entry.path):
                    raise SourceError(
                        f"links in --data-path must not lead out of it. Received: {relative!r}, "
                        f"which leads to {os.path.realpath(entry.path)!r}: put the files "
                        "themselves there"
                    )
                is_image = entry.name.lower().endswith(SUFFIXES)
                # An empty folder by an image's name is no class but an image that went wrong.
                if entry.is_dir() and not (is_image and not os.listdir(entry.path)):
                    inside = (*self.above, real)
                    found.folders.append(Folder(entry.path, relative, self.real_root, inside))
                elif is_image:
                    found.images.append(_stamp(entry, relative))
                else:
                    found.others.append(relative)
        return found


def open_folder(root: Path) -> Folder:
    """Return the folder `root`, which may itself be a link; nothing is read yet."""
    return Folder(str(root), "", os.path.realpath(root))


def _stamp(entry: os.DirEntry[str], relative: str) -> FileStamp:
    try:
        status = entry.stat()
    except OSError:  # a broken link; opening it will say so
        return FileStamp(relative, -1, -1)
    return FileStamp(relative, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
