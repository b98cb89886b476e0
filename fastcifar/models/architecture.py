"""What stored weights, and the configuration beside them, tell about the network they are of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastcifar.augment.preprocess import scheme_of
from fastcifar.models.meaning import KERAS_APPLICATIONS, Meaning
from fastcifar.models.resnet import BLOCKS
from fastcifar.models.weight_files import Layers, WeightFile, walk

_STEM, _STRIDED = "conv1_conv", "conv3_block1_{}_conv"
_BACKBONE = re.compile(r"conv\d+_")
# Layers in front of a network that leave values of pixels as they are.
_PASSIVE = {"InputLayer", "Resizing", "CenterCrop", "ZeroPadding2D", "Dropout", "Cropping2D"}
# As Keras up to 2.2 named the layers of its ResNet50.
_OLD_NAMES = re.compile(r"(res|bn)\d[a-z]\d*_branch\d[a-c]?")
_FIRST = re.compile(r"conv(\d+)_block\d+_1_conv")


def is_backbone(layer: str) -> bool:
    """Whether a layer is named as those of a ResNet below its head."""
    return _BACKBONE.match(layer) is not None


def old_name_of(layers: Layers) -> str | None:
    """Return the first layer that is named as in the ResNet50 of old versions of Keras, or None."""
    return next((name for name in sorted(layers) if _OLD_NAMES.fullmatch(name)), None)


def depth_of(layers: Layers) -> int | None:
    """Return the depth of the ResNet whose blocks these layers are, or None."""
    stages = [int(found[1]) for name in layers if (found := _FIRST.fullmatch(name))]
    blocks = tuple(stages.count(stage) for stage in range(2, 6))
    return next((depth for depth, known in BLOCKS.items() if known == blocks), None)


def stem_of(layers: Layers) -> str | None:
    """Return the stem that the first convolution's shape tells, or None."""
    kernel = layers.get(_STEM, {}).get("kernel")
    if kernel is None or kernel.ndim != 4:
        return None
    return {(7, 7): "imagenet", (3, 3): "cifar"}.get(kernel.shape[:2])


def meaning_of(file: WeightFile) -> Meaning:
    """Return what a file tells about the use of its weights.

    A convolution with a bias in front of a BatchNorm is the mark of the network of Keras
    Applications; nobody else writes these names with one. What its weights were trained on is not
    told by that. What a configuration in the file says goes before.
    """
    known = Meaning(stem=stem_of(file.layers))
    if known.stem == "imagenet" and "bias" in file.layers[_STEM]:
        known = dataclasses.replace(KERAS_APPLICATIONS, normalise=None)
    if file.config is None:
        return known
    stated = _stated(file.config)
    scheme, own_pixels = _pixels(file.config, file.layers)
    return Meaning(
        stem=stated.get("stem") or known.stem,
        stride_version=stated.get("stride_version") or known.stride_version,
        padding=stated.get("padding") or known.padding,
        batch_norm_epsilon=stated.get("batch_norm_epsilon") or known.batch_norm_epsilon,
        normalise=scheme,
        own_pixels=own_pixels,
    )


def _pixels(config: Mapping[str, Any], weights: Layers) -> tuple[str | None, str | None]:
    """What a network's own layers make of its input: (a scheme, or words where it is none).

    Both are None where no layer says it, or one is there whose arithmetic is not known here.
    """
    scale, offset, said = np.ones(3), np.zeros(3), False
    for kind, layer in _before_stem(config):
        if kind == "Rescaling":
            times, plus = layer.get("scale"), layer.get("offset")
        elif kind == "Normalization":
            own = weights.get(str(layer.get("name")), {})
            # As arguments, or adapted: then they are weights, which Keras 3 numbers.
            mean = layer.get("mean", None) if layer.get("mean") is not None else own.get("mean")
            mean = own.get("0") if mean is None else mean
            variance = layer.get("variance")
            variance = own.get("variance", own.get("1")) if variance is None else variance
            if mean is None or variance is None or layer.get("invert"):
                return None, None
            deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)
            times, plus = 1 / deviation, -np.asarray(mean, np.float64) / deviation
        elif kind in _PASSIVE or kind.startswith("Random"):
            continue
        else:
            return None, None
        try:
            times, plus = (
                np.broadcast_to(np.asarray(value, np.float64).ravel(), 3) for value in (times, plus)
            )
        except (TypeError, ValueError):
            return None, None
        if not np.isfinite([times, plus]).all():  # None is NaN
            return None, None
        scale, offset, said = scale * times, offset * times + plus, True
    if not said:
        return None, None
    # A network that was fed 0..1 has a mean in that range.
    for fed in (1.0, 255.0):
        scheme = scheme_of(scale / fed, offset)
        if scheme is not None:
            return scheme, None
    ends = ", ".join(
        f"{low:.3g} to {high:.3g}" for low, high in zip(offset, offset + 255 * scale, strict=True)
    )
    return None, f"{ends} in the three channels"


def _before_stem(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (kind, configuration) of the layers in front of the first convolution, in order."""
    for item in walk(config):
        inner = item.get("config")
        # What has no name is no layer: initializers, dtype policies.
        if "class_name" not in item or not isinstance(inner, dict) or "layers" in inner:
            continue
        name = inner.get("name")
        if name == _STEM:
            return
        if isinstance(name, str) and item.get("class_name") != "DTypePolicy":
            yield str(item["class_name"]), inner


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read stem, strides, padding and epsilon off the layers of a Keras configuration."""
    layers: dict[str, Mapping[str, Any]] = {}
    for item in walk(config):
        inner = item.get("config")
        if "class_name" in item and isinstance(inner, dict) and isinstance(inner.get("name"), str):
            layers.setdefault(inner["name"], inner)
    found: dict[str, Any] = {}
    sizes = {name: _first(layer.get("kernel_size")) for name, layer in layers.items()}
    strides = {name: _first(layer.get("strides")) for name, layer in layers.items()}
    for size, stride, stem in ((7, 2, "imagenet"), (3, 1, "cifar")):
        if (sizes.get(_STEM), strides.get(_STEM)) == (size, stride):
            found["stem"] = stem
    for place, version in ((1, "v1"), (2, "v1.5")):
        if strides.get(_STRIDED.format(place)) == 2:
            found["stride_version"] = version
    # Where the kernel is 1x1 or the stride 1, both ways of padding are the same.
    padded = {
        str(layer.get("padding"))
        for name, layer in layers.items()
        if is_backbone(name) and (sizes[name] or 0) > 1 and strides[name] == 2
    }
    found["padding"] = "same" if "same" in padded else "symmetric" if sizes.get(_STEM) else None
    epsilons = {
        layer["epsilon"]
        for name, layer in layers.items()
        if is_backbone(name) and isinstance(layer.get("epsilon"), float)
    }
    found["batch_norm_epsilon"] = epsilons.pop() if len(epsilons) == 1 else None
    return found


def _first(value: Any) -> int | None:
    """Return the number of a pair such as kernel_size; Keras writes (7, 7), or 7."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) else None
