"""What features depend on: named parts that tell whether kept ones still hold, and if not, why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

import fastcifar
from fastcifar.augment.policies import Policy
from fastcifar.config import ModelConfig, RunConfig
from fastcifar.data.split import Examples
from fastcifar.runtime import Runtime
from fastcifar.training.transforms import choose_normalisation

# A part's name, as a person reads it, to a JSON value.
Key = dict[str, Any]

# Fields of `ModelConfig` that the backbone's features do not depend on, or that have parts of their
# own. A field that is not named here counts.
_NOT_OF_THE_BACKBONE = (
    *("weights", "head", "dropout", "zero_gamma", "batch_norm_momentum", "sync_batch_norm"),
    *("normalise", "resize_method"),
)


# Raised where equal policies come to draw otherwise: what was kept before then holds no longer.
_DRAWS = 2


def describe(
    config: RunConfig,
    chosen: Runtime,
    *,
    split: Examples,
    backbone: Sequence[tuple[str, tf.Variable]],
    policy: Policy | None,
    views: int,
    image_size: int,
) -> Key:
    """Name everything that the features of one pass depend on.

    Args:
        config: of the run, with everything settled that was left to weights.
        chosen: what the run computes on; the last bits of features depend on it.
        split: whose images.
        backbone: its variables, by path.
        policy: how images are augmented; None for evaluation.
        views: of each image.
        image_size: side in pixels at which the backbone sees them.
    """
    drawn = policy is not None and bool(policy.operations)
    return {
        "images": digest_of_data(split),
        "weights": _digest_of_weights(backbone),
        "network": _network(config.model),
        "normalisation": choose_normalisation(config.model.normalise),
        "image size": image_size,
        "resize method": config.model.resize_method,
        "compute dtype": chosen.compute_dtype,
        "augmentation": policy.describe() if policy is not None and drawn else "none",
        "way of drawing": _DRAWS if drawn else None,
        "views": views,
        "seed": config.seed if drawn else None,
        "layout": {
            "gpus": list(chosen.gpus),
            "replicas": len(chosen.hosted),
            "xla": chosen.xla,
            "tf32": bool(chosen.gpus) and config.runtime.tf32,
            # Evaluation resizes on the device wherever training does.
            "augment_on": config.data.augment_on if policy is not None else "device",
            "augment_form": config.data.augment_form if policy is not None else "auto",
            "resize_on": config.data.resize_on if policy is not None else "device",
        },
        "version": f"fastcifar {fastcifar.__version__}, TensorFlow {tf.__version__}",
    }


def digest(value: Any) -> str:
    """Hash a JSON value."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def digest_of_data(split: Examples) -> str:
    """Hash a split, wherever its images are: their shape, their pixels and the labels."""
    found = hashlib.blake2b(digest_size=16)
    found.update(f"{split.image_shape}\n".encode())
    found.update(split.digests.tobytes())
    found.update(split.labels.tobytes())
    return found.hexdigest()


def _digest_of_weights(variables: Sequence[tuple[str, tf.Variable]]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path, variable in sorted(variables, key=lambda pair: pair[0]):
        array = variable.numpy()
        found.update(f"{path} {array.dtype} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _network(model: ModelConfig) -> dict[str, Any]:
    values = dataclasses.asdict(model)
    return {name: value for name, value in values.items() if name not in _NOT_OF_THE_BACKBONE}
