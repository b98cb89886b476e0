"""The competition's files, drawn: trainLabels.csv and train/*.png, or train.7z."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fastcifar.data.sources.kaggle import CLASSES

COUNT = 30


def png(shade: int) -> bytes:
    """A 4×4 image of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def images(count: int = COUNT) -> dict[str, bytes]:
    """Members train/1.png, train/2.png, …; image k has the shade k."""
    return {f"train/{number}.png": png(number) for number in range(1, count + 1)}


def labels(count: int = COUNT) -> str:
    """trainLabels.csv: the classes in turn."""
    rows = [f"{number},{CLASSES[number % 10]}\n" for number in range(1, count + 1)]
    return "id,label\n" + "".join(rows)


def write_folder(folder: Path, count: int = COUNT) -> Path:
    """Write the competition's folder, unpacked."""
    (folder / "train").mkdir(parents=True)
    (folder / "trainLabels.csv").write_text(labels(count))
    for name, content in images(count).items():
        (folder / name).write_bytes(content)
    return folder


def write_7z(
    path: Path,
    members: Mapping[str, bytes],
    edit: Callable[[list[dict[str, Any]]], None] = lambda files: None,
) -> Path:
    """Write an archive; `edit` gets its list of contents, because py7zr writes no harmful one."""
    import py7zr

    with py7zr.SevenZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(content, name)
        if members:
            edit(archive.header.files_info.files)
    return path
