"""Which part of a network trains: all of it, its head, or everything from a layer on."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from fastcifar.errors import ConfigError
from fastcifar.models.heads import is_head

_GROUP = re.compile(r"(conv\d+(?:_block\d+)?)_")
_FROM = "from:"


@dataclass(frozen=True)
class Subset:
    """The layers with weights, in the order of the network.

    Attributes:
        trained: names of those that train.
        frozen: names of those that do not; their BatchNorms stay in inference mode.
    """

    trained: tuple[str, ...]
    frozen: tuple[str, ...]


def select(model: keras.Model, which: str, *, freeze_batch_norm: bool = False) -> Subset:
    """Choose what trains.

    Args:
        model: of `build_resnet`.
        which: `all`, `head`, or `from:NAME`: everything from a layer, a block (`conv5_block1`) or a
            stage (`conv5`) on, towards the logits.
        freeze_batch_norm: keep the backbone's BatchNorms frozen, whatever else trains.

    Raises:
        ConfigError: if `which` is none of these, names no layer (with the nearest that there are),
            or the network has no head to train.
    """
    layers = [layer for layer in model.layers if layer.weights]
    first = _first(model, [layer.name for layer in layers], which)
    if first == len(layers):
        raise ConfigError(
            f"trainable must leave something to train. Received: {which!r}, behind which "
            f"{model.name} has no weights"
        )
    trained: list[str] = []
    frozen: list[str] = []
    for position, layer in enumerate(layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization) and not is_head(layer.name)
        keep = position < first or (freeze_batch_norm and is_norm)
        (frozen if keep else trained).append(layer.name)
    return Subset(tuple(trained), tuple(frozen))


@contextlib.contextmanager
def training_only(model: keras.Model, subset: Subset) -> Iterator[None]:
    """Freeze the rest of a network while it is called, or traced, inside.

    Keras then leaves the variables of frozen layers out of `model.trainable_variables`, and runs
    frozen BatchNorms in inference mode. Afterwards every layer is as it was: what else calls the
    network, such as evaluation, goes on finding its variables in the same order.
    """
    trained = set(subset.trained)
    layers = [layer for layer in model.layers if layer.weights]
    before = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = layer.name in trained
        yield
    finally:
        for layer, trainable in zip(layers, before, strict=True):
            layer.trainable = trainable


def group_of(layer: str) -> str:
    """Return the part of a network that a layer is of: `conv1`, `conv4_block6`, … or `head`."""
    found = _GROUP.match(layer)
    return found[1] if found else "head"


def rate_factors(model: keras.Model, decay: float) -> dict[str, float]:
    """Return the factor of the learning rate for each variable, by path: 1 for the head.

    Layer-wise rate decay: each block trains `decay` times as fast as the one behind it (Clark et
    al., "ELECTRA", 2020, for transformers; here a residual block is the layer).

    Args:
        model: of `build_resnet`.
        decay: in (0, 1]; 1 trains all alike.

    Raises:
        ConfigError: if `decay` is out of range.
    """
    if not 0 < decay <= 1:
        raise ConfigError(f"rate decay must be above 0 and at most 1. Received: {decay}")
    layers = [layer for layer in model.layers if layer.weights]
    groups = list(dict.fromkeys(group_of(layer.name) for layer in layers))
    distance = {group: len(groups) - 1 - index for index, group in enumerate(groups)}
    return {
        variable.path: decay ** distance[group_of(layer.name)]
        for layer in layers
        for variable in layer.weights
    }


def _first(model: keras.Model, layers: list[str], which: str) -> int:
    """Return the position of the first layer that trains."""
    if which == "all":
        return 0
    if which == "head":
        heads = [position for position, name in enumerate(layers) if is_head(name)]
        if not heads:
            raise ConfigError(
                f"trainable head needs a network with a head. Received: {model.name} without one"
            )
        return heads[0]
    if not which.startswith(_FROM):
        raise ConfigError(f"trainable must be all, head or from:LAYER. Received: {which!r}")
    name = which.removeprefix(_FROM)
    # Layers without weights may be named as well: what follows them trains.
    order = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    start = next((i for i, each in enumerate(order) if _named(each, name)), None)
    if start is None:
        stages = dict.fromkeys(part for each in order for part in _parts(each))
        close = difflib.get_close_matches(name, [*stages, *order], n=3, cutoff=0.5)
        guess = f" Nearest: {', '.join(close)}" if close else ""
        raise ConfigError(
            f"trainable from:LAYER must name a layer, block or stage of {model.name}. "
            f"Received: {name!r}.{guess}"
        )
    following = (layers.index(each) for each in order[start:] if each in layers)
    return next(following, len(layers))  # behind the last layer with weights: nothing trains


def _named(layer: str, name: str) -> bool:
    return bool(name) and (layer == name or layer.startswith(f"{name}_"))


def _parts(layer: str) -> list[str]:
    """Return the stage and the block of a layer's name, as far as it has them."""
    group = group_of(layer)
    return [] if group == "head" else list(dict.fromkeys([group.split("_")[0], group]))
