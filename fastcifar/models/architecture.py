"""What stored weights, and the configuration beside them, tell about the network they are of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastcifar.models.meaning import KERAS_APPLICATIONS, Meaning
from fastcifar.models.resnet import BLOCKS
from fastcifar.models.weight_files import Layers, WeightFile, walk

_STEM, _STRIDED = "conv1_conv", "conv3_block1_{}_conv"
_BACKBONE = re.compile(r"conv\d+_")
_FIRST = re.compile(r"conv(\d+)_block\d+_1_conv")


def is_backbone(layer: str) -> bool:
    """Whether a layer is named as those of a ResNet below its head."""
    return _BACKBONE.match(layer) is not None


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

    A convolution with a bias in front of a BatchNorm is the mark of Keras Applications; nobody else
    writes these names with one. What a .keras file says in its configuration goes before.
    """
    known = Meaning(stem=stem_of(file.layers))
    if known.stem == "imagenet" and "bias" in file.layers[_STEM]:
        known = KERAS_APPLICATIONS
    if file.config is None:
        return known
    stated = _stated(file.config)
    return Meaning(
        stem=stated.get("stem") or known.stem,
        stride_version=stated.get("stride_version") or known.stride_version,
        padding=stated.get("padding") or known.padding,
        batch_norm_epsilon=stated.get("batch_norm_epsilon") or known.batch_norm_epsilon,
        normalise=known.normalise,
    )


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
