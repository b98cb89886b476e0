"""What other people's machines bring with them, and what of it is ours to decide.

Keras, TensorFlow, TFDS and matplotlib read environment variables when they are imported. So
`import fastcifar` settles those that decide whether this package works at all, and processes that
are started from it inherit them.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.util
import os
import stat
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from fastcifar.errors import ConfigError, DeviceError
from fastcifar.paths import keras_home

# Variables that hold a path. A shell expands `~` on a command line, but not in a file of variables
# (Docker's, systemd's, a notebook's), and not every library does.
PATH_VARIABLES = (
    "CURL_CA_BUNDLE",
    "FASTCIFAR_CACHE",
    "KAGGLE_CONFIG_DIR",
    "KERAS_HOME",
    "MPLCONFIGDIR",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TFDS_DATA_DIR",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)

# Below it come two names of multiprocessing's, of 32 bytes together.
_LONGEST_FOR_SOCKETS = 70


def settle_variables(environ: MutableMapping[str, str]) -> None:
    """Set what libraries read when they are imported; call it before they are.

    Keras runs on TensorFlow whatever KERAS_BACKEND or keras.json say, and is Keras 3. `~` is
    expanded in `PATH_VARIABLES`. A process without a home (no HOME, and a user that the system does
    not know, as in containers) gets one in the folder for temporary files.

    Args:
        environ: the process's environment variables, changed in place.
    """
    environ["KERAS_BACKEND"] = "tensorflow"
    environ["TF_USE_LEGACY_KERAS"] = "0"
    for name in ("HOME", "KERAS_HOME"):
        if environ.get(name) == "":  # libraries would take it for the working directory
            del environ[name]
    if os.path.expanduser("~") == "~":
        environ["HOME"] = _own_folder()
    for name in PATH_VARIABLES:
        if environ.get(name, "").startswith("~"):
            environ[name] = os.path.expanduser(environ[name])


def settle_sockets() -> None:
    """Let processes of this one talk where TMPDIR is long; call it before they are started.

    Their sockets lie in the folder for temporary files, and a socket's path is 107 bytes at most.
    """
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) <= _LONGEST_FOR_SOCKETS:
        return
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        tempfile.tempdir = folder
        try:
            with contextlib.suppress(OSError):
                multiprocessing.util.get_temp_dir()  # which the process keeps to
                return
        finally:
            tempfile.tempdir = before


def check_keras_json() -> None:
    """Refuse a keras.json that Keras and TensorFlow fail on when they are imported.

    What else it holds does not matter: see `settle_keras`.

    Raises:
        ConfigError: naming the file and the value.
    """
    path = keras_home() / "keras.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):  # Keras ignores what is absent or no JSON
        return
    legal = {
        "floatx": ("float16", "float32", "float64"),
        "image_data_format": ("channels_last", "channels_first"),
    }
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object: correct the file, or remove it")
    for name, options in legal.items():
        if values.get(name, options[0]) not in options:
            raise ConfigError(
                f"{name} in {path} must be one of {', '.join(options)}: correct the file, or "
                f"remove it. Received: {values[name]!r}"
            )
    if not isinstance(values.get("epsilon", 0.0), float):
        raise ConfigError(
            f"epsilon in {path} must be a number with a point: correct the file, or remove it. "
            f"Received: {values['epsilon']!r}"
        )


def settle_keras() -> None:
    """Import Keras with the settings that this package computes by, whatever keras.json says.

    Raises:
        ConfigError: if neither Keras nor TensorFlow could be imported with that file.
        DeviceError: if Keras has been imported on another backend before `fastcifar`.
    """
    check_keras_json()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise DeviceError(
            "Keras must run on TensorFlow: import fastcifar before keras, or set "
            f"KERAS_BACKEND=tensorflow. Received: Keras on {keras.backend.backend()}"
        )
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def settle_program() -> None:
    """Prepare a process that is this package's own, such as the command line's.

    Output that the terminal's encoding cannot show is written as escapes instead of ending the
    program, and plots are drawn without a window or a notebook.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"


def _own_folder() -> str:
    """A folder for temporary files that is always the same, and this user's alone."""
    folder = Path(tempfile.gettempdir()) / f"fastcifar-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # Others can make folders there too: theirs must not decide what we read.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return str(folder)
    return tempfile.mkdtemp(prefix="fastcifar-")
