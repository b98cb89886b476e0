"""Named augmentation policies, as data.

No TensorFlow here: names are validated and policies are described without importing it.
`fastcifar.augment.build` turns a policy into a function on tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastcifar.augment import operations as op
from fastcifar.errors import ConfigError, nearest


@dataclass(frozen=True)
class Policy:
    """A composition of operations.

    Whatever the order of `operations`, the chain runs: colours (on the source), erasing (on the
    source, at the place that the resampling brings to the drawn rectangle), one resampling for all
    geometry and the resize, mixing. Within each of these the order is that of `operations`.

    Attributes:
        name: what `--augment` takes.
        operations: from `fastcifar.augment.operations`; may be empty.
        description: one line for a list of policies.

    Raises:
        ConfigError: if the operations cannot be combined (two border modes in one resampling, or
            KerasCV's layers beside ours).
    """

    name: str
    operations: tuple[op.Operation, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        for operation in self.operations:
            if not isinstance(operation, op.Operation):
                raise ConfigError(
                    f"policy {self.name!r}: every operation must come from "
                    f"fastcifar.augment.operations. Received: {operation!r}"
                )
        borders = sorted({o.border for o in self.operations if hasattr(o, "border")})
        if len(borders) > 1:
            raise ConfigError(
                f"policy {self.name!r}: its operations share one resampling and so one border "
                f"mode. Received: {', '.join(borders)}"
            )
        if not self.compiled and any(o.kind not in ("keras_cv", "mixing") for o in self.operations):
            raise ConfigError(
                f"policy {self.name!r}: KerasCV's layers combine with mixing policies only"
            )

    @property
    def mixes(self) -> bool:
        """Whether labels come out as float32 [B, num_classes] in place of int [B]."""
        return any(operation.kind == "mixing" for operation in self.operations)

    @property
    def compiled(self) -> bool:
        """Whether the policy can be part of a program compiled by XLA."""
        return all(operation.kind != "keras_cv" for operation in self.operations)

    @property
    def group_size(self) -> int:
        """What a replica's slice of the global batch must be a multiple of."""
        return math.lcm(*(operation.group_size for operation in self.operations))

    @property
    def border(self) -> str:
        """The border mode of the one resampling: "zero", "reflect" or "edge"."""
        return next((o.border for o in self.operations if hasattr(o, "border")), "zero")

    def describe(self) -> str:
        """Return the policy as text: a headline, then one indented line for each operation."""
        notes = []
        if self.mixes:
            notes.append("mixes labels")
        if self.group_size > 1:
            notes.append(f"groups of {self.group_size}")
        if not self.compiled:
            notes.append("not compiled by XLA")
        note = f" [{', '.join(notes)}]" if notes else ""
        lines = [f"  {operation.describe()}" for operation in self.operations] or ["  (nothing)"]
        return "\n".join([f"{self.name}: {self.description}{note}", *lines])


def _named(*policies: Policy) -> dict[str, Policy]:
    return {policy.name: policy for policy in policies}


POLICIES: dict[str, Policy] = _named(
    Policy("none", (), "resize only"),
    Policy("flip", (op.Flip(),), "horizontal flip"),
    Policy(
        "alternating-flip",
        (op.AlternatingFlip(),),
        "every image mirrored in every second epoch",
    ),
    Policy(
        "alternating-flip-crop",
        (op.AlternatingFlip(), op.PadCrop()),
        "every image mirrored in every second epoch, pad and crop",
    ),
    Policy("flip-crop", (op.Flip(), op.PadCrop()), "horizontal flip, pad and crop"),
    Policy(
        "standard",
        (op.Flip(), op.PadCrop(), op.Cutout()),
        "horizontal flip, pad and crop, cutout",
    ),
    Policy("cutout", (op.Cutout(),), "one square covered"),
    Policy(
        "flip-rotate-zoom",
        (op.Flip(), op.Rotate(border="reflect"), op.Zoom(border="reflect")),
        "horizontal flip, small rotation and zoom",
    ),
    Policy(
        "resized-crop",
        (op.Flip(), op.RandomResizedCrop()),
        "horizontal flip, crop of random area and aspect",
    ),
    Policy(
        "colour",
        (op.Flip(), op.PadCrop(), op.Brightness(), op.Contrast(), op.Saturation(), op.Hue()),
        "horizontal flip, pad and crop, colour jitter",
    ),
    Policy(
        "trivial",
        (op.Flip(), op.PadCrop(), op.TrivialAugment()),
        "horizontal flip, pad and crop, TrivialAugment (wide)",
    ),
    Policy(
        "rand",
        (op.Flip(), op.PadCrop(), op.RandAugment()),
        "horizontal flip, pad and crop, RandAugment (2 operations of magnitude 9)",
    ),
    Policy("mixup", (op.MixUp(),), "pairs of images averaged"),
    Policy("cutmix", (op.CutMix(),), "a rectangle of the partner pasted"),
    Policy("keras-cv", (op.KerasCV(),), "KerasCV's flip, crop and cutout layers, for comparison"),
)


def combine(*policies: Policy) -> Policy:
    """Return the policy that applies all operations of `policies` in order, named `a+b`.

    Raises:
        ConfigError: as `Policy`.
    """
    return Policy(
        "+".join(policy.name for policy in policies),
        tuple(operation for policy in policies for operation in policy.operations),
        "; ".join(policy.description for policy in policies),
    )


def get(name: str) -> Policy:
    """Return the policy called `name`: a key of `POLICIES`, or several joined by "+".

    >>> get("standard+mixup").mixes
    True

    Raises:
        ConfigError: if a name is unknown (it tells the nearest legal one), or as `Policy`.
    """
    parts = name.split("+") if isinstance(name, str) else [name]
    for part in parts:
        if part not in POLICIES:
            raise ConfigError(
                f"augment must be one of {', '.join(POLICIES)}, or several joined by '+'. "
                f"Received: {part!r}.{nearest(str(part), POLICIES)}"
            )
    return POLICIES[name] if len(parts) == 1 else combine(*(POLICIES[part] for part in parts))
