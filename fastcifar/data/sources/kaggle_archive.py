"""Unpacking a 7z archive of images: into one folder, whole or not at all, and nothing else."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcifar.data.sources.ingest import Progress
from fastcifar.errors import SourceError

# The competition's 50,000 images unpack to 0.12 GB, its 300,000 test images to 0.7 GB.
_MOST_BYTES = 2 << 30
_MOST_FILES = 1_000_000


def unpack(archive: Path, folder: Path, suffix: str, progress: Progress | None = None) -> None:
    """Unpack an archive that holds NAME/*suffix into `folder`, whose name is NAME.

    Everything is judged by the archive's list of contents before a byte is unpacked; what then
    comes is bounded by the sizes stated there.

    Args:
        archive: a .7z file.
        folder: does not exist yet; nothing is written beside it, and it appears whole.
        suffix: of the files, such as `.png`.
        progress: called with (what, done, total).

    Raises:
        SourceError: if py7zr is not installed, if the archive is damaged, holds anything else or
            unpacks to too much, or if the disk refuses.
    """
    try:
        py7zr = importlib.import_module("py7zr")
    except ImportError as error:
        raise SourceError(
            f"{archive.name} needs the package py7zr: pip install 'fastcifar[kaggle]', or unpack "
            f"it yourself into {str(folder)!r}"
        ) from error
    what = f"unpacking {archive.name}"
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        # Opened here: given a path, py7zr would unpack in several threads at once.
        with archive.open("rb") as file, py7zr.SevenZipFile(file) as opened:
            entries = opened.list()
            files = _check(entries, folder.name, suffix, archive)
            if progress:
                progress(what, 0, files)
            opened.extractall(partial)
        if progress:
            progress(what, files, files)
        os.rename(partial / folder.name, folder)
    except (SourceError, MemoryError):
        raise
    except OSError as error:
        if folder.is_dir():
            return  # another process was faster, and its folder is whole
        raise _refused(folder, error) from error
    except Exception as error:  # on damaged bytes py7zr and its decoders raise nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(
            f"{archive.name} must be a whole 7z archive. Received: {str(archive)!r}, which is "
            f"truncated, damaged or something else ({reason}): fetch it again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(entries: Sequence[Any], root: str, suffix: str, archive: Path) -> int:
    """Refuse an archive by its list of contents; return how many files it holds."""
    total, seen = 0, set()
    for entry in entries:
        name = str(entry.filename)
        if entry.is_directory and name.rstrip("/") == root:
            continue
        folder, _, file = name.rpartition("/")
        if not entry.is_file or entry.is_symlink:
            fault = "no file"
        elif folder != root or "\\" in file:
            fault = f"outside of {root}"
        elif not file.endswith(suffix) or file == suffix:
            fault = f"no {suffix}"
        elif name in seen:
            fault = "there twice"
        else:
            seen.add(name)
            total += int(entry.uncompressed)
            continue
        raise SourceError(
            f"{archive.name} must hold {root}/*{suffix} alone. "
            f"Received: {name!r} in {str(archive)!r}, which is {fault}"
        )
    if not seen:
        raise SourceError(
            f"{archive.name} must hold {root}/*{suffix}. Received: {str(archive)!r} without any"
        )
    if total > _MOST_BYTES or len(seen) > _MOST_FILES:
        raise SourceError(
            f"{archive.name} must unpack to at most {_MOST_BYTES} bytes in {_MOST_FILES} files. "
            f"Received: {total} bytes in {len(seen)} files in {str(archive)!r}"
        )
    return len(seen)


def _refused(folder: Path, error: OSError) -> SourceError:
    return SourceError(
        f"{str(folder)!r} cannot be written: {error.strerror or error}. Free space there, or "
        "choose another --data-path"
    )
