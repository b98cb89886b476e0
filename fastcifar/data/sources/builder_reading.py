"""Reading examples out of a TFDS builder, for the sources that are one underneath."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcifar.errors import SourceError

# Examples handed over at once: enough to make the hand-over cheap, few enough that encoded
# photographs of several MB each stay within a few hundred MB.
_BATCH = 64


def read_builder(
    builder: Any, split: str, keys: tuple[str, ...], decoders: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Read one split once, in the builder's own fixed order.

    Args:
        builder: a prepared `tfds.core.DatasetBuilder`.
        split: one of the builder's splits.
        keys: the features to read.
        decoders: as for `builder.as_dataset`; with `SkipDecoding` a feature stays encoded.

    Yields:
        For each batch a dict from key to array [m, ...], m at most 64; encoded features are arrays
        of `bytes` objects.

    Raises:
        SourceError: if TensorFlow cannot read the files.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # Without this TFDS caches sets below 250 MB in memory, encoded, after they have been decoded.
    config = tfds.ReadConfig(try_autocache=False)
    try:
        examples = builder.as_dataset(split=split, decoders=decoders, read_config=config)
        selected = examples.map(lambda example: {key: example[key] for key in keys})
        yield from selected.batch(_BATCH).prefetch(2).as_numpy_iterator()
    except (tf.errors.OpError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SourceError(
            f"the {split} split of {builder.name} cannot be read: {reason}"
        ) from error
