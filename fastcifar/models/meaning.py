"""What weights mean beyond their numbers: the network they belong to and the pixels they expect.

The same arrays compute something else with the stride in another convolution, with zeros padded on
one side only, with another epsilon or with other pixel values, and nothing fails. So weights carry
these with them, and a configuration either adopts them (`auto`) or has to agree.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from fastcifar.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True)
class Meaning:
    """What weights want to be used with; None where they do not say.

    Attributes:
        stem: `imagenet` (7x7 stride 2 and pooling) or `cifar` (3x3 stride 1).
        stride_version: `v1` (a block's stride in its first 1x1 convolution) or `v1.5` (in its 3x3).
        padding: `symmetric` (as many zeros on each side, which is what `build_resnet` does) or
            `same` (TensorFlow's: where the stride is 2, one more at the bottom and the right).
        batch_norm_epsilon: added to the variance.
        normalise: a scheme of `fastcifar.augment.preprocess`.
        own_pixels: what layers of the network made of pixels, where no scheme does the same.
    """

    stem: str | None = None
    stride_version: str | None = None
    padding: str | None = None
    batch_norm_epsilon: float | None = None
    normalise: str | None = None
    own_pixels: str | None = None


# The files that Keras publishes. From its source: zeros are padded explicitly, 3 before conv1 and 1
# before the pooling, and `preprocess_input` of its ResNets is the mode "caffe".
KERAS_APPLICATIONS = Meaning(
    stem="imagenet",
    stride_version="v1",
    padding="symmetric",
    batch_norm_epsilon=1.001e-5,
    normalise="caffe",
)

# What `auto` is without weights, and where weights do not say.
_DEFAULTS = {
    "stem": "imagenet",
    "stride_version": "v1",
    "batch_norm_epsilon": 1.001e-5,
    "normalise": "cifar",
}


@dataclass(frozen=True)
class Choice:
    """The network and the normalisation to use, settled between configuration and weights.

    Attributes:
        stem, stride_version, batch_norm_epsilon: for `build_resnet`.
        normalise: a scheme of `fastcifar.augment.preprocess`.
        notes: what was taken for granted, one line each.
        warnings: what works against the weights, one line each.
    """

    stem: str
    stride_version: str
    batch_norm_epsilon: float
    normalise: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def settle(
    meaning: Meaning | None,
    *,
    stem: str = AUTO,
    stride_version: str = AUTO,
    batch_norm_epsilon: float | None = None,
    normalise: str = AUTO,
) -> Choice:
    """Settle what the configuration leaves to the weights, and refuse what contradicts them.

    Args:
        meaning: of the weights; None without any.
        stem, stride_version, normalise: a value, or `auto` to follow the weights.
        batch_norm_epsilon: a value, or None to follow the weights.

    Returns:
        Values for all. The stem `cifar` is legal with weights of the stem `imagenet`
        (`fastcifar.models.pretrained.load_into` then leaves the first convolution fresh), and
        another normalisation is a warning: networks learn to cope with both.

    Raises:
        ConfigError: if another explicit value contradicts the weights, or if they need a padding
            that `build_resnet` does not do.
    """
    asked = {
        "stem": None if stem == AUTO else stem,
        "stride_version": None if stride_version == AUTO else stride_version,
        "batch_norm_epsilon": batch_norm_epsilon,
        "normalise": None if normalise == AUTO else normalise,
    }
    wanted = {field.name: getattr(meaning, field.name, None) for field in fields(Meaning)}
    if wanted["padding"] not in (None, "symmetric"):
        raise ConfigError(
            "weights must be of a network that pads as many zeros on each side. "
            f"Received: weights of one with padding {wanted['padding']!r} in a convolution of "
            "stride 2"
        )
    warnings = []
    if wanted["own_pixels"]:
        own = f"a network whose layers turn pixels 0..255 into {wanted['own_pixels']}"
        if asked["normalise"] is None:
            raise ConfigError(
                "weights must be of a network that sees pixels as one of --normalise unit, cifar, "
                f"imagenet, caffe makes them. Received: those of {own}. Choose the nearest to "
                "train them further on it"
            )
        warnings.append(f"normalise {asked['normalise']}: the weights are those of {own}")
    for name, value in asked.items():
        if None in (value, wanted[name]) or value == wanted[name]:
            continue
        if name == "normalise":
            warnings.append(
                f"normalise {value} is not what the weights were trained with, {wanted[name]}: "
                "they see other pixel values than they know"
            )
        elif (name, value) != ("stem", "cifar"):
            flag = name.replace("_", "-")
            raise ConfigError(
                f"{flag} must be that of the weights, {wanted[name]}. Received: {value}. Leave "
                f"--{flag} out to follow the weights"
            )
    values: dict[str, Any] = {
        name: next(v for v in (asked[name], wanted[name], default) if v is not None)
        for name, default in _DEFAULTS.items()
    }
    notes = []
    unsaid = [name for name in asked if asked[name] is None and wanted[name] is None]
    if meaning is not None and unsaid:
        taken = ", ".join(f"{name.replace('_', '-')} {values[name]}" for name in unsaid)
        said = f"the weights do not say what they were trained with; taken: {taken}"
        if "normalise" in unsaid:
            said += ". If they know other pixels, say --normalise unit, imagenet or caffe"
        notes.append(said)
    return Choice(**values, notes=tuple(notes), warnings=tuple(warnings))
