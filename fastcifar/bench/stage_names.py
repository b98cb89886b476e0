"""The stages of a training step by name, in the order of the table; no TensorFlow here.

read, decode, cache   a file's bytes, its pixels, their place in memory
order                 the host's pipeline alone: positions, gather, batch
transfer              a batch from the host to the device
dispatch              a step that computes nothing: call, loop, metrics
resize, augment, forward, backward, reduce, update
step                  the whole step on a batch that lies on the device
end_to_end            the real pipeline into the real step
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcifar.errors import ConfigError, nearest

READ, DECODE, CACHE = "read", "decode", "cache"
ORDER, TRANSFER = "order", "transfer"
DISPATCH, RESIZE, AUGMENT = "dispatch", "resize", "augment"
FORWARD, BACKWARD, REDUCE, UPDATE = "forward", "backward", "reduce", "update"
STEP, END_TO_END = "step", "end_to_end"

# When a stage is paid.
ONCE, EACH_STEP = "once a run", "each step"

INGEST = (READ, DECODE, CACHE)
DEVICE = (DISPATCH, RESIZE, AUGMENT, FORWARD, BACKWARD, REDUCE, UPDATE)
STAGES = (*INGEST, ORDER, TRANSFER, *DEVICE, STEP, END_TO_END)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The stages of these names in the order of the table; all of them if there are no names.

    Raises:
        ConfigError: for a name that is none, with the nearest that is.
    """
    for name in names:
        if name not in STAGES:
            raise ConfigError(
                f"stages takes {', '.join(STAGES)}, several joined by commas. "
                f"Received: {name!r}.{nearest(name, STAGES)}"
            )
    return tuple(stage for stage in STAGES if not names or stage in names)
