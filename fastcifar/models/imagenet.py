"""The file of ImageNet weights that Keras Applications publishes, found or downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path

from fastcifar.data.sources.hosts import unreachable_hosts
from fastcifar.errors import ConfigError
from fastcifar.models.weight_files import WeightsError
from fastcifar.paths import keras_home

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
# Depth → MD5 of the file without the head, as `keras.applications.resnet` has it (a test compares).
# Keras publishes no other sum; it tells a damaged file, not a forged one, and nothing in such a
# file is run.
_MD5 = {
    50: "4d473c1dd8becc155b73f8504c6f6626",
    101: "88cf7a10940856eca736dc7b7e228a21",
    152: "ee4c566cf9a93f14d82f913c2dc6dd0c",
}

# The same with the head for ImageNet's classes.
_MD5_WITH_HEAD = {
    50: "2cb95161c43110f7111970584f804107",
    101: "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    152: "100835be76be38e30d865e96f2aaae62",
}


def is_published(path: Path) -> bool:
    """Whether a file is one of those that Keras Applications publishes, whatever its name."""
    return _md5(path) in {*_MD5.values(), *_MD5_WITH_HEAD.values()}


def find_file(depth: int) -> Path:
    """Return the file of a ResNet, from Keras' cache or downloaded into it.

    Args:
        depth: 50, 101 or 152 layers.

    Raises:
        ConfigError: if there are no weights for that depth.
        WeightsError: if the file is not in the cache, or damaged, and cannot be downloaded.
    """
    if depth not in _MD5:
        raise ConfigError(
            f"weights imagenet need depth {', '.join(map(str, _MD5))}. Received: depth {depth}"
        )
    name = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    home = keras_home()
    path = home / "models" / name
    found = _md5(path)
    if found == _MD5[depth]:
        return path
    state = "is not there" if found is None else f"has the MD5 {found}, so it is damaged or another"
    mend = (
        f"put {name} (MD5 {_MD5[depth]}) from {_URL} there, or name it by --weights PATH, or train "
        "from scratch by --weights none"
    )
    # Asked first: Keras would remove the file that is there before it finds that there is no host.
    unreachable = unreachable_hosts([_URL])
    if unreachable:
        raise WeightsError(
            f"weights imagenet must be in Keras' cache or be downloaded. Received: {str(path)!r} "
            f"{state}, and its host ({unreachable[0]}) cannot be reached: {mend}"
        )
    return _download(name, _MD5[depth], home, mend)


def _md5(path: Path) -> str | None:
    """Return the MD5 of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WeightsError(
            f"weights imagenet must be readable. Received: {str(path)!r}: {error.strerror}"
        ) from error


def _download(name: str, md5: str, home: Path, mend: str) -> Path:
    import keras

    try:
        home.mkdir(parents=True, exist_ok=True)  # Keras turns to /tmp where it is missing
        # Keras announces the download on stdout, which belongs to results.
        with contextlib.redirect_stdout(sys.stderr):
            found = keras.utils.get_file(
                name,
                f"{_URL}{name}",
                cache_dir=str(home),
                cache_subdir="models",
                file_hash=md5,
                hash_algorithm="md5",
            )
    except Exception as error:  # network, checksum, disk: Keras raises plain exceptions
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"weights imagenet cannot be downloaded to {str(home)!r}: {reason}; {mend}"
        ) from error
    return Path(found)
