"""Downloading the competition's files with the user's Kaggle key.

The key stays where it is: the kaggle package reads it. Here it is only looked at whether there is
one, and nothing of it goes into a message, a file or a chained exception. What the package raises
is not repeated either, because its texts hold signed addresses; the HTTP status tells enough.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcifar.data.sources.hosts import unreachable_hosts
from fastcifar.data.sources.ingest import Progress
from fastcifar.errors import SourceError

COMPETITION = "cifar-10"

_SITE = "https://www.kaggle.com/"
_MOST_BYTES = 2 << 30  # train.7z has 0.12 GB
_GET_A_KEY = (
    f"Get one at {_SITE}settings (API, Create New Token), or bring the files and name their folder "
    "by --data-path"
)
_TOKENS = ("access_token", "access_token.txt", "credentials.json")


def download(folder: Path, names: Sequence[str], progress: Progress | None = None) -> list[str]:
    """Download files of the competition into a folder, unless they are there.

    Args:
        folder: made where it does not exist; each file appears in it whole or not at all.
        names: of the files.
        progress: called with (what, done, total).

    Returns:
        Notes: what was done, and a warning if others can read the key.

    Raises:
        SourceError: if there is no usable key, no kaggle package, no network or no permission, or
            if the disk refuses.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return []
    notes = check_key()
    unreachable = unreachable_hosts([_SITE])
    if unreachable:
        raise SourceError(
            f"{', '.join(missing)} must be downloaded, and their host ({unreachable[0]}) cannot be "
            "reached: bring the files and name their folder by --data-path"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".download-", dir=folder))
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        api = _api()
        for done, name in enumerate(missing):
            if progress:
                progress(f"downloading {name}", done, len(missing))
            _fetch(api, name, partial)
            os.replace(_unzipped(partial, name), folder / name)
            if progress:
                progress(f"downloading {name}", done + 1, len(missing))
    except OSError as error:
        raise _refused(folder, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [*notes, f"{', '.join(missing)} of {COMPETITION} downloaded into {str(folder)!r}"]


def check_key() -> list[str]:
    """Look whether the kaggle package will find a key; return a warning if others can read it.

    Raises:
        SourceError: if there is none, or kaggle.json cannot be read or holds none.
    """
    variables = os.environ
    if variables.get("KAGGLE_API_TOKEN") or (
        variables.get("KAGGLE_USERNAME") and variables.get("KAGGLE_KEY")
    ):
        return []
    tokens = [Path.home() / ".kaggle" / name for name in _TOKENS]
    path = next((token for token in tokens if token.is_file()), None)
    if path is None:
        path = _config_folder() / "kaggle.json"
        _check_json(path)
    if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
        return [f"warning: other users can read your Kaggle key: chmod 600 '{path}'"]
    return []


def _config_folder() -> Path:
    """Where the kaggle package looks for kaggle.json."""
    if os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(os.environ["KAGGLE_CONFIG_DIR"])
    home = Path.home() / ".kaggle"
    if home.exists():
        return home
    other = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return other if (other / "kaggle.json").exists() else home


def _check_json(path: Path) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(
            f"downloading from Kaggle needs your key. Received: no {str(path)!r}. {_GET_A_KEY}"
        ) from None
    except OSError as error:
        raise SourceError(
            f"kaggle.json must be readable. Received: {str(path)!r}: {error.strerror}"
        ) from None
    except ValueError:  # no JSON, no UTF-8; the exception holds the text
        content = None
    held = content if isinstance(content, dict) else {}
    if not all(isinstance(held.get(name), str) and held[name] for name in ("username", "key")):
        raise SourceError(
            "kaggle.json must be a JSON object with username and key. "
            f"Received: something else in {str(path)!r}. {_GET_A_KEY}"
        ) from None


def _api() -> Any:
    """Import the kaggle package, which logs in, and log in once more to see whether it worked."""
    sink = io.StringIO()  # it prints, and stdout belongs to results
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            api = importlib.import_module("kaggle").api
            api.authenticate()
    except ImportError:
        raise SourceError(
            "downloading from Kaggle needs the package kaggle: pip install 'fastcifar[kaggle]'"
        ) from None
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"Kaggle does not accept your key ({_reason(error)}). {_GET_A_KEY}"
        ) from None
    return api


def _fetch(api: Any, name: str, folder: Path) -> None:
    sink = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            api.competition_download_file(COMPETITION, name, path=str(folder), quiet=True)
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno is not None and _status(error) is None:
            raise
        mend = {
            401: f"your key is not valid. {_GET_A_KEY}",
            403: f"accept the competition's rules at {_SITE}c/{COMPETITION}/rules, once",
        }.get(_status(error) or 0, "try again later, or bring the file by --data-path")
        raise SourceError(
            f"{name} of the competition {COMPETITION} cannot be downloaded "
            f"({_reason(error)}): {mend}"
        ) from None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status behind an exception, if there is one."""
    for holder in (error, getattr(error, "response", None)):
        for attribute in ("status_code", "status"):
            value = getattr(holder, attribute, None)
            if isinstance(value, int):
                return value
    return None


def _reason(error: BaseException) -> str:
    status = _status(error)
    return f"HTTP {status}" if status else type(error).__name__


def _unzipped(folder: Path, name: str) -> Path:
    """Return a downloaded file; Kaggle packs some of them into NAME.zip."""
    path, packed = folder / name, folder / f"{name}.zip"
    if path.is_file() and not packed.is_file():
        return path
    try:
        with zipfile.ZipFile(packed) as archive:
            if archive.getinfo(name).file_size > _MOST_BYTES:
                raise SourceError(f"{name} must be at most {_MOST_BYTES} bytes. Received: more")
            with archive.open(name) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (KeyError, ValueError, zipfile.BadZipFile, FileNotFoundError) as error:
        raise SourceError(
            f"Kaggle must send {name} or {name}.zip. Received: {type(error).__name__} on opening it"
        ) from None
    return path


def _refused(folder: Path, error: OSError) -> SourceError:
    return SourceError(
        f"{str(folder)!r} cannot be written: {error.strerror or type(error).__name__}. Free space "
        "there, or choose another place by FASTCIFAR_CACHE"
    )
