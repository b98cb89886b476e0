"""The input of the ladder's first rung, at the size of ImageNet's networks."""

from __future__ import annotations

import tensorflow as tf

from fastcifar import recipes
from fastcifar.bench import rungs, textbook
from fastcifar.bench.feeds.candidate import POLICY, SEED, Candidate
from fastcifar.data.split import Split

IMAGE_SIZE = 224
NAME = f"{rungs.NAIVE}/{IMAGE_SIZE}px"


def candidate(split: Split, global_batch_size: int) -> Candidate:
    """PNGs decoded, augmented and enlarged image by image on the host, one after the other."""
    data = rungs.naive(recipes.get("cifar10-32px")).config.data
    size = split.image_shape[0]

    def make() -> tf.data.Dataset:
        dataset = textbook.image_batches(
            split,
            data,
            POLICY,
            image_size=IMAGE_SIZE,
            global_batch_size=global_batch_size,
            seed=SEED,
        )
        # TensorFlow adds a prefetch of its own where there is none, and would go on working while
        # others are timed.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return dataset.with_options(options)

    return Candidate(
        NAME,
        make,
        len(split) // global_batch_size * global_batch_size,
        global_batch_size,
        differs=f"delivers float32 at {IMAGE_SIZE} px, decoded from PNG, augmented and resized; "
        f"permutation delivers uint8 at {size} px, as the device augments and resizes",
        ready=data.prefetch,
    )
