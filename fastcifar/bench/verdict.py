"""What bounds a run, by how much, and which flag to try: from the times of its stages alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastcifar.bench.record import Estimate

# The input holds the device back where the whole interval of the pipeline efficiency lies below,
# and keeps up where the whole interval lies above.
EFFICIENT = 0.95
# In the place of a stage.
CANNOT_TELL = "cannot tell"

# Stage -> what it is, and what to try. Those of the host first, then those of the device.
_HOST = {
    "read": (
        "reading images from disk in every step",
        "a larger --memory-budget, --cache memory, --parallel-map 4",
    ),
    "decode": ("decoding images in every step", "--cache memory, --parallel-map 4"),
    "order": (
        "the host's order and gathering of batches",
        "--order permutation, --cache memory or device, --parallel-map 2, --prefetch 4",
    ),
    "transfer": (
        "the transfer of batches to the device",
        "--transfer uint8, --cache device",
    ),
    "resize": ("resizing on the host", "--resize-on device"),
    "augment": ("augmentation on the host", "--augment-on device"),
}
_DEVICE = {
    "dispatch": ("calls from the host to the device", "--steps-per-call auto, --xla on"),
    "resize": ("resizing on the device", "--resize-method nearest, a smaller --image-size"),
    "augment": ("augmentation on the device", "a cheaper --augment, --xla on"),
    "compute": (
        "the network's forward and backward pass",
        "a smaller --image-size, a faster device",
    ),
    "reduce": (
        "the reduction of gradients between replicas",
        "a larger --global-batch-size, fewer --devices",
    ),
    "update": ("the optimizer's update", "a larger --global-batch-size, --optimizer sgd"),
}


@dataclass(frozen=True)
class Verdict:
    """What bounds a run.

    Attributes:
        stage: the one that does; `compute`: the network's forward and backward pass; or
            `CANNOT_TELL`.
        text: what it is, by how much, and which flag to try.
    """

    stage: str
    text: str


def judge(
    us_per_image: Mapping[str, float],
    efficiency: Estimate,
    *,
    on_host: frozenset[str] = frozenset(),
    precision: str = "float32",
) -> Verdict:
    """Say what bounds a run.

    Args:
        us_per_image: of the stages that a step pays, as far as they are known, with `step` and
            `end_to_end`.
        efficiency: `end_to_end` over `step`.
        on_host: which of `resize` and `augment` the host does.
        precision: of the run: float32 is not the last word on hardware that knows less.
    """
    step, whole = us_per_image["step"], us_per_image["end_to_end"]
    names = ("read", "decode", "order", "transfer", *sorted(on_host))
    host = {name: us_per_image.get(name, 0.0) for name in names}
    if efficiency.high < EFFICIENT:
        culprit = max(host, key=host.__getitem__)
        what, cure = _HOST[culprit]
        return Verdict(
            culprit,
            f"Bound by the input: {what} ({culprit}, {host[culprit]:,.1f} µs an image) holds the "
            f"device back, which could do {whole / step:.2f} times as much. Try {cure}.",
        )
    device = {
        name: us_per_image.get(name, 0.0)
        for name in ("dispatch", "resize", "augment", "reduce", "update")
        if name not in on_host
    }
    device["compute"] = us_per_image.get("forward", 0.0) + us_per_image.get("backward", 0.0)
    culprit = max(device, key=device.__getitem__)
    what, cure = _DEVICE[culprit]
    if culprit == "compute" and precision == "float32":
        cure = f"--precision auto, {cure}"
    largest = f"{what} ({culprit}) is {device[culprit] / step:.0%} of a step"
    if efficiency.low < EFFICIENT:
        return Verdict(
            CANNOT_TELL,
            f"Cannot tell whether the input keeps up: pipeline efficiency {efficiency.median:.2f} "
            f"[{efficiency.low:.2f}, {efficiency.high:.2f}]. Measure longer (--seconds). On the "
            f"device {largest}.",
        )
    return Verdict(
        culprit,
        f"Bound by the device: {largest}; the input keeps up (pipeline efficiency "
        f"{efficiency.median:.2f}). Try {cure}.",
    )
