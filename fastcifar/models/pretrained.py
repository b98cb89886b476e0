"""Pretrained weights: read from a file or a run, checked against the network, and put into it.

A convolution of Keras Applications has a bias; ours have none, because the BatchNorm behind it
subtracts whatever constant is added. So a bias b is folded into that BatchNorm's moving mean:
(x + b) - mean = x - (mean - b), and the outputs stay the same. In training the bias cancels anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from fastcifar.models import imagenet, weight_files
from fastcifar.models.architecture import depth_of, is_backbone, meaning_of, old_name_of, stem_of
from fastcifar.models.heads import is_head
from fastcifar.models.meaning import KERAS_APPLICATIONS, Meaning
from fastcifar.models.weight_files import Layers, WeightsError
from fastcifar.paths import local_path

_SHOWN = 3  # layers named in one message
STEM_CONV, _STEM_BN = "conv1_conv", "conv1_bn"
_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Pretrained:
    """Weights that do not belong to a network yet.

    Attributes:
        origin: what they are called in messages: `imagenet`, a path.
        layers: arrays by layer and weight.
        meaning: how they want to be used; see `fastcifar.models.meaning.settle`.
        class_names: what the logits of their head stand for, where that is known.
    """

    origin: str
    layers: Layers
    meaning: Meaning
    class_names: tuple[str, ...] | None = None


def read(weights: str, *, depth: int = 50) -> Pretrained:
    """Read weights from a file.

    Args:
        weights: `imagenet`, or the path of a .h5, .weights.h5 or .keras file; `~` is understood.
            The weights of a run come by `from_arrays`.
        depth: of the ResNet whose ImageNet weights are wanted.

    Raises:
        ConfigError: if there are no ImageNet weights for that depth.
        WeightsError: if the file is absent, damaged, no weights, or holds code.
    """
    if weights == "imagenet":
        path = imagenet.find_file(depth)
    else:
        path = Path(local_path("weights", str(weights)))
        if path.is_dir():
            raise WeightsError(
                "weights must be imagenet, a .h5, .weights.h5 or .keras file, or the folder of a "
                f"run. Received: {weights!r}, a folder without a run"
            )
    file = weight_files.read(path)
    meaning = meaning_of(file)
    if imagenet.is_published(path):
        meaning = dataclasses.replace(meaning, normalise=KERAS_APPLICATIONS.normalise)
    return Pretrained(weights, file.layers, meaning)


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    *,
    origin: str,
    meaning: Meaning,
    class_names: tuple[str, ...] | None = None,
    prefix: str = "model/",
) -> Pretrained:
    """Take weights out of the arrays of a run's checkpoint.

    Args:
        arrays: by name; those that begin with `prefix` are weights, named by their Keras path
            (`model/conv1_conv/kernel`).
        origin: the run's folder.
        meaning: the run's stem, stride version, epsilon and normalisation, as they were settled.
        class_names: of the run's data.
        prefix: of the weights to take.

    Raises:
        WeightsError: if no array has the prefix.
    """
    layers: Layers = {}
    for name, value in arrays.items():
        if name.startswith(prefix):
            layer, _, weight = name.removeprefix(prefix).rpartition("/")
            layers.setdefault(layer.rsplit("/", 1)[-1], {})[weight] = value
    if not layers:
        raise WeightsError(
            f"a checkpoint must hold arrays named {prefix}LAYER/WEIGHT. "
            f"Received: none in {origin!r}"
        )
    return Pretrained(origin, layers, meaning, class_names)


def load_into(
    model: keras.Model, weights: Pretrained, *, class_names: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Put weights into a network; return what the user should know, one line each.

    The backbone has to fit layer by layer. Two things may differ: the head, which then keeps its
    fresh values, and the first convolution of a network with the stem `cifar` under weights of the
    stem `imagenet`; the statistics of the BatchNorm behind it start fresh with it, because they
    describe the old convolution's output.

    Args:
        model: of `build_resnet`, under whatever strategy it was made.
        weights: of `read` or `from_arrays`.
        class_names: of the data at hand; a head that was trained for others is replaced.

    Raises:
        WeightsError: if the backbone differs, naming the first layers that do, or a weight is not
            finite. The network is then as it was.
    """
    old_name = old_name_of(weights.layers)
    if old_name is not None:
        raise WeightsError(
            f"weights must be those of this {model.name}. Received: {weights.origin!r} with layers "
            f"such as {old_name!r}: that is the ResNet50 of Keras up to 2.2, another network (its "
            "BatchNorms have the epsilon 1e-3). Take weights of a newer Keras, such as imagenet"
        )
    stored = _fold_biases(weights.layers)
    notes = []
    targets = {
        layer.name: {variable.name: variable for variable in layer.weights}
        for layer in model.layers
        if layer.weights
    }
    backbone = {name: dict(own) for name, own in targets.items() if not is_head(name)}
    head = {name: own for name, own in targets.items() if is_head(name)}
    if _fresh_stem(backbone, stored):
        backbone.pop(STEM_CONV)
        stored.pop(STEM_CONV)
        for name in _STATISTICS:
            backbone[_STEM_BN].pop(name, None)
            stored.get(_STEM_BN, {}).pop(name, None)
        notes.append(
            "conv1_conv and the statistics of conv1_bn start fresh: the stem is cifar, and the "
            f"weights {weights.origin} have the stem imagenet"
        )
    kept = {name: own for name, own in stored.items() if is_backbone(name)}
    _check_backbone(backbone, kept, model.name, weights)
    taken = dict(backbone)
    old_head = {name: own for name, own in stored.items() if name not in kept}
    reason = _head_differs(head, old_head, weights.class_names, class_names)
    if reason:
        notes.append(f"the head starts fresh: {reason}")
    else:
        taken |= head
    _check_finite(taken, stored, weights.origin)
    for name, variables in taken.items():
        for weight, variable in variables.items():
            variable.assign(stored[name][weight])
    return tuple(notes)


def _fold_biases(layers: Layers) -> Layers:
    """Return the layers without the biases of convolutions that a BatchNorm follows."""
    folded = {name: dict(own) for name, own in layers.items()}
    for name, own in folded.items():
        follower = folded.get(name.removesuffix("_conv") + "_bn", {})
        mean = follower.get("moving_mean")
        bias = own.get("bias")
        if not name.endswith("_conv") or bias is None or mean is None or mean.shape != bias.shape:
            continue
        follower["moving_mean"] = mean - bias
        del own["bias"]
    return folded


def _fresh_stem(backbone: Mapping[str, Mapping[str, keras.Variable]], stored: Layers) -> bool:
    """Whether the network's stem is cifar and that of the weights imagenet, of the same width."""
    if stem_of(stored) != "imagenet":
        return False
    ours = tuple(backbone[STEM_CONV]["kernel"].shape)
    return ours == (3, 3, *stored[STEM_CONV]["kernel"].shape[2:])


def _check_backbone(
    backbone: Mapping[str, Mapping[str, keras.Variable]],
    stored: Layers,
    network: str,
    weights: Pretrained,
) -> None:
    found = list(_differences(backbone, stored))
    if not found:
        return
    more = f"; and in {len(found) - _SHOWN} more layers" if len(found) > _SHOWN else ""
    depth = depth_of(stored)
    guess = f". They look like depth {depth}" if depth and f"resnet{depth}" != network else ""
    raise WeightsError(
        f"weights must be those of this {network}. Received: {weights.origin!r}, which differs in "
        f"{'; '.join(found[:_SHOWN])}{more}{guess}"
    )


def _differences(
    backbone: Mapping[str, Mapping[str, keras.Variable]], stored: Layers
) -> Iterator[str]:
    """Yield the first difference of each layer, in the order of the network."""
    for layer in dict.fromkeys([*backbone, *stored]):
        wanted = {name: tuple(v.shape) for name, v in backbone.get(layer, {}).items()}
        there = {name: value.shape for name, value in stored.get(layer, {}).items()}
        for weight in dict.fromkeys([*wanted, *there]):
            if wanted.get(weight) != there.get(weight):
                yield (
                    f"{layer}/{weight} ({wanted.get(weight, 'none')} wanted, "
                    f"{there.get(weight, 'none')} there)"
                )
                break


def _head_differs(
    head: Mapping[str, Mapping[str, keras.Variable]],
    stored: Layers,
    old_classes: tuple[str, ...] | None,
    classes: tuple[str, ...] | None,
) -> str | None:
    """Return why the stored head does not fit, or None if it does."""
    if not head:
        return None
    if not stored:
        return "the weights have none"
    if old_classes is not None and classes is not None and old_classes != classes:
        if len(old_classes) != len(classes):
            return f"that of the weights is for {len(old_classes)} classes, not {len(classes)}"
        return f"that of the weights is for other classes, such as {old_classes[0]!r}"
    for name, variables in head.items():
        for weight, variable in variables.items():
            value = stored.get(name, {}).get(weight)
            if value is None:
                return f"that of the weights has no {name}/{weight}"
            expected = tuple(variable.shape)
            if value.shape == expected:
                continue
            if name == "predictions" and value.shape[:-1] == expected[:-1]:
                return f"that of the weights is for {value.shape[-1]} classes, not {expected[-1]}"
            return f"{name}/{weight} must have shape {expected} and has {value.shape}"
    return None


def _check_finite(
    taken: Mapping[str, Mapping[str, keras.Variable]], stored: Layers, origin: str
) -> None:
    for layer, variables in taken.items():
        for weight in variables:
            if not np.isfinite(stored[layer][weight]).all():
                raise WeightsError(
                    f"weights must be finite. Received: {layer}/{weight} of {origin!r} with "
                    "infinities or NaN"
                )
