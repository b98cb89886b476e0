"""Paths as people give them, in flags, configurations and environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fastcifar.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKETS = ("gs", "s3", "s3a", "az", "abfs", "abfss", "hdfs", "r2")


def local_path(name: str, text: str) -> str:
    """Return a path of this machine: `~` expanded, `file://` taken off.

    Args:
        name: of the flag or the environment variable, for messages.
        text: what it is given. `~user` of nobody stays as it is, as in a shell.

    Raises:
        ConfigError: if it is an address elsewhere, such as `gs://bucket/images`, or a `~` where
            there is no home.
    """
    found = _SCHEME.match(text)
    if found:
        parts = urlsplit(text)
        if found[1].lower() == "file" and parts.netloc in ("", "localhost"):
            return url2pathname(parts.path)
        how = "mount or copy it" if found[1].lower() in _BUCKETS else "download it"
        # Not the rest of the address, nor its user: both may hold keys.
        shown = f"{found[1]}://{parts.netloc.rpartition('@')[2]}/…"
        raise ConfigError(
            f"{name} must be a path of this machine: {how} first, and name the folder or file. "
            f"Received: {shown!r}"
        )
    expanded = os.path.expanduser(text)
    if expanded == text and (text == "~" or text.startswith("~/")):
        raise ConfigError(
            f"{name} starts with ~, and this process has no home folder: set HOME, or give the "
            f"whole path. Received: {text!r}"
        )
    return expanded


def given_path(text: str) -> Path:
    """Read a path from the command line of a program: the `type` of an `argparse` argument.

    Raises:
        ConfigError: see `local_path`.
    """
    return Path(local_path("the path", text))


def keras_home() -> Path:
    """The folder of Keras' downloads, as Keras chooses it: $KERAS_HOME, ~/.keras or /tmp/.keras.

    Raises:
        ConfigError: if KERAS_HOME is an address elsewhere.
    """
    if os.environ.get("KERAS_HOME"):
        return Path(local_path("KERAS_HOME", os.environ["KERAS_HOME"]))
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras"
