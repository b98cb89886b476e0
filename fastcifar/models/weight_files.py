"""Weight files, read as data: arrays by layer and name. No code in a file is ever run.

    .h5            Keras 2 and Keras Applications: an attribute lists the layers and their weights
    .weights.h5    Keras 3: layers/…/vars/0, 1, …; an attribute of `vars` holds the layer's name
    .keras         a zip archive of config.json and of such a .weights.h5

The content decides what a file is, not its name. HDF5 can point at other files and declare arrays
of any size; links, external and virtual arrays are refused, and sizes are summed up before anything
is read.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fastcifar.errors import UserError

# Layer → weight → value.
Layers = dict[str, dict[str, np.ndarray]]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# ResNet152 takes 0.24 GB; what declares more than this is something else.
_MOST_BYTES = 2 << 30
_MOST_CONFIG_BYTES = 64 << 20
# Keras 3 numbers a layer's weights; their shapes tell which layer it is.
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


class WeightsError(UserError):
    """Weights that are absent, damaged or of another network."""


@dataclass(frozen=True)
class WeightFile:
    """What a file holds.

    Attributes:
        layers: arrays by layer and weight: kernel, bias, gamma, beta, moving_mean, moving_variance.
        config: the network's configuration as Keras wrote it (.keras, and .h5 of a whole network),
            or None.
    """

    layers: Layers
    config: dict[str, Any] | None = None


def read(path: Path) -> WeightFile:
    """Read a .h5, .weights.h5 or .keras file.

    Raises:
        WeightsError: if the file is absent, unreadable, truncated, damaged, none of these, or a
            .keras file with code in it.
    """
    with _one_line(path):
        with path.open("rb") as file:
            magic = file.read(8)
        if magic == _HDF5:
            with h5py.File(path, "r") as opened:
                return WeightFile(_layers(opened, path), _listed_config(opened))
        if magic.startswith(_ZIP):
            return _read_archive(path)
    raise WeightsError(
        f"weights must be a .h5, .weights.h5 or .keras file. Received: {str(path)!r}, which is "
        f"{'empty' if not magic else 'none of these'}"
    )


def _listed_config(file: h5py.File) -> dict[str, Any] | None:
    """The configuration beside the weights of a whole network in the older format."""
    text = file.attrs.get("model_config")
    config = json.loads(text) if isinstance(text, str | bytes) else None
    return config if isinstance(config, dict) else None


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what h5py and zipfile raise on damaged bytes into one line."""
    try:
        yield
    except WeightsError:
        raise
    except OSError as error:
        if error.errno is not None:
            reason = error.strerror or str(error)
            raise WeightsError(
                f"weights must be a file that can be read. Received: {str(path)!r}: {reason}"
            ) from error
        raise _damaged(path, error) from error
    except (
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        EOFError,
        RecursionError,
    ) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())[:200]
    return WeightsError(
        f"weights must be a whole file. Received: {str(path)!r}, which is truncated or damaged "
        f"({reason}): fetch it again"
    )


def _read_archive(path: Path) -> WeightFile:
    with zipfile.ZipFile(path) as archive:
        absent = {_CONFIG, _WEIGHTS} - set(archive.namelist())
        if absent:
            raise WeightsError(
                f"weights in a zip archive must be a .keras file. Received: {str(path)!r} without "
                f"{sorted(absent)[0]}"
            )
        config = json.loads(_member(archive, _CONFIG, _MOST_CONFIG_BYTES, path))
        if not isinstance(config, dict):
            raise ValueError(f"{_CONFIG} is no JSON object")
        _refuse_code(config, path)
        weights = _member(archive, _WEIGHTS, _MOST_BYTES, path)
    with h5py.File(io.BytesIO(weights), "r") as opened:
        return WeightFile(_layers(opened, path), config)


def _member(archive: zipfile.ZipFile, name: str, most: int, path: Path) -> bytes:
    """Read a member whole, which also checks its checksum."""
    if archive.getinfo(name).file_size > most:
        raise WeightsError(
            f"{name} in a .keras file must be at most {most} bytes. "
            f"Received: {archive.getinfo(name).file_size} in {str(path)!r}"
        )
    return archive.read(name)


def _refuse_code(config: dict[str, Any], path: Path) -> None:
    """Refuse whatever Keras would have to run to build the network.

    Nothing is built from the file here; but a network with code in it computes something else than
    its layers' names say.
    """
    # How the network was trained is not part of it, and a loss may well be somebody's own function.
    for item in walk({**config, "compile_config": None}):
        kind, inner = str(item.get("class_name", "")), item.get("config")
        module = str(item.get("module") or "keras").split(".")[0]
        registered = str(item.get("registered_name") or "")
        legal = module in ("keras", "builtins", "fastcifar")
        legal = legal and (">" not in registered or registered.startswith("fastcifar>"))
        # Keras names its own functions by a word; as objects there are only those of others.
        if legal and kind != "function" and "lambda" not in kind.casefold():
            continue
        name = inner.get("name") if isinstance(inner, dict) else inner
        called = f" {name!r}" if isinstance(name, str) else ""
        raise WeightsError(
            "a .keras file must hold layers of Keras alone, no code. "
            f"Received: {registered or kind}{called} in {str(path)!r}. Save the weights alone: "
            "model.save_weights('NAME.weights.h5')"
        )


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object within a value, outer ones first."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            waiting.extend(reversed(item))


def _layers(file: h5py.File, path: Path) -> Layers:
    reader = _Reader(path)
    # A whole network in the older format keeps its weights in a group of their own.
    root = _child(file, "model_weights", h5py.Group, path) if "model_weights" in file else file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        reader.read_listed(root)
    elif "layers" in root:
        reader.read_numbered(_child(root, "layers", h5py.Group, path))
    else:
        raise WeightsError(
            "weights in HDF5 must have been written by Keras. "
            f"Received: {str(path)!r}, which holds {', '.join(sorted(root)[:3]) or 'nothing'}"
        )
    return reader.layers


class _Reader:
    """Collects arrays, and holds how many bytes they have declared so far."""

    def __init__(self, path: Path):
        self.path = path
        self.layers: Layers = {}
        self._bytes = 0
        self._seen: set[int] = set()

    def read_listed(self, root: h5py.Group) -> None:
        """Read the older format: names are listed in attributes, in the network's order."""
        for group_name in _names(root, "layer_names"):
            group = _child(root, group_name, h5py.Group, self.path)
            for weight_name in _names(group, "weight_names"):
                # conv1_conv/kernel:0, and in a nested network resnet50/conv1_conv/kernel:0
                *outer, weight = weight_name.split("/")
                inner = group
                for part in outer:
                    inner = _child(inner, part, h5py.Group, self.path)
                value = self._value(_child(inner, weight, h5py.Dataset, self.path))
                if value is not None:
                    self._add(outer[-1] if outer else group_name, weight.split(":")[0], value)

    def read_numbered(self, group: h5py.Group) -> None:
        """Read the newer format: the weights of a layer are numbered, its name is an attribute."""
        address = h5py.h5o.get_info(group.id).addr
        if address in self._seen:  # two names for one group, which may be in a circle
            raise ValueError(f"{group.name} has two names")
        self._seen.add(address)
        for key in sorted(group):
            child = _child(group, key, h5py.Group, self.path)
            if key == "vars":
                self._add_numbered(child, group.name)
            else:
                self.read_numbered(child)

    def _add_numbered(self, variables: h5py.Group, where: str) -> None:
        datasets = [
            _child(variables, key, h5py.Dataset, self.path) for key in sorted(variables, key=int)
        ]
        values = [value for value in map(self._value, datasets) if value is not None]
        if not values:
            return
        name = variables.attrs.get("name")
        if not isinstance(name, str):
            raise WeightsError(
                "weights must name their layers, as Keras 3.9 and later do. "
                f"Received: {str(self.path)!r}, where {where} has no name. Load them with a newer "
                "Keras and save them again"
            )
        if len(values) == 4 and all(value.ndim == 1 for value in values):
            names: tuple[str, ...] = _BATCH_NORM
        elif values[0].ndim > 1 and len(values) <= 2:
            names = ("kernel", "bias")
        else:
            names = tuple(str(number) for number in range(len(values)))
        for weight, value in zip(names, values, strict=False):
            self._add(name, weight, value)

    def _add(self, layer: str, weight: str, value: np.ndarray) -> None:
        if weight in self.layers.setdefault(layer, {}):
            raise WeightsError(
                "weights must hold one layer of a name. "
                f"Received: {layer!r} twice in {str(self.path)!r}"
            )
        self.layers[layer][weight] = value

    def _value(self, dataset: h5py.Dataset) -> np.ndarray | None:
        """Read an array; None for what is no weight, such as the state of a generator."""
        if dataset.external or dataset.is_virtual:
            raise WeightsError(
                "weights must lie in their file. "
                f"Received: {dataset.name!r} in {str(self.path)!r}, which lies in another"
            )
        if dataset.dtype.kind != "f":
            return None
        self._bytes += int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
        if self._bytes > _MOST_BYTES:
            raise WeightsError(
                f"weights must be at most {_MOST_BYTES} bytes. Received: more in {str(self.path)!r}"
            )
        return np.asarray(dataset[()])


def _child(group: h5py.Group, name: str, kind: type, path: Path) -> Any:
    """Return a member of a group; what is behind a link may lie in any file of this machine."""
    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise WeightsError(
            f"weights must lie in their file. Received: {name!r} in {str(path)!r}, a link"
        )
    child = group[name]
    if not isinstance(child, kind):
        raise ValueError(f"{child.name} is no {kind.__name__.lower()}")
    return child


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Read a list of names; one that is too long for an attribute comes in numbered parts."""
    parts = [attribute]
    if attribute not in group.attrs:
        numbered = (f"{attribute}{number}" for number in itertools.count())
        parts = list(itertools.takewhile(lambda part: part in group.attrs, numbered))
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
