"""A run small enough for a test: the quickstart's network and images, at 16 px."""

import dataclasses

from fastcifar import recipes
from fastcifar.config import RunConfig

STEPS_PER_EPOCH = 7  # 128 images, 13 held out


def small(**changes) -> RunConfig:
    """Three epochs of seven steps of the quickstart's network, at a size for tests."""
    base = recipes.get("quickstart")
    data = {"synthetic_count": 128, "synthetic_size": 16, **changes.pop("data", {})}
    phase = {"epochs": 3, "image_size": 16, "augment": "flip-crop", **changes.pop("phase", {})}
    settled = {"stem": "imagenet", "stride_version": "v1", "batch_norm_epsilon": 1.001e-5}
    model = {"depth": 14, "width": 4, "normalise": "cifar", **settled, **changes.pop("model", {})}
    runtime = {"precision": "float32", **changes.pop("runtime", {})}
    return dataclasses.replace(
        base,
        global_batch_size=16,
        data=dataclasses.replace(base.data, **data),
        model=dataclasses.replace(base.model, **model),
        runtime=dataclasses.replace(base.runtime, **runtime),
        phases=(dataclasses.replace(base.phases[0], warmup_epochs=0.0, **phase),),
        **changes,
    )
