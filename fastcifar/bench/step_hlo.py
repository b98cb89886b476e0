"""The compiled step as XLA is given it: HLO before any optimisation, in a file.

`python -m fastcifar.bench.run_hlo` measures such a file on a host that has JAX and no TensorFlow.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable
from pathlib import Path

import keras

from fastcifar.bench.subject import Subject
from fastcifar.config import RunConfig
from fastcifar.errors import ConfigError
from fastcifar.models.max_pooling import max_pool
from fastcifar.rundir import write_whole
from fastcifar.training.phase import build_step, open_batches
from fastcifar.training.preparation import prepare
from fastcifar.training.progress import Display

# What TensorFlow adds of names and paths: most of the text, and nothing of the program.
_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
_POOLING = "pool1_pool"


def write_step(config: RunConfig, path: Path) -> list[Path]:
    """Write the step of a run's first phase, at its final size; returns the files.

    The first has the pooling that GPUs get (`fastcifar.models.max_pooling`), on whatever device it
    is written. Where the network pools, the second has TensorFlow's own gradient of it, and its
    name ends in `-scatter`. A name that ends in `.xz` is compressed.

    Args:
        config: one device, with XLA on.
        path: of the first.

    Raises:
        UserError: for what the step of that configuration does outside of the program.
    """
    if config.data.cache == "device":
        raise ConfigError(
            "dump-hlo takes images from the batch, not from --cache device: leave it out"
        )
    prepared = prepare(config, Display(quiet=True))
    if prepared.runtime.replicas > 1:
        raise ConfigError(
            "dump-hlo writes the step of one device: add --devices 1. "
            f"Received: {prepared.runtime.replicas} replicas"
        )
    subject = Subject.of(config, prepared)
    if subject.phase.transforms.before_program is not None:
        raise ConfigError(
            "dump-hlo needs an augmentation that XLA compiles. "
            f"Received: {subject.phase.config.augment}"
        )

    def write(to: Path) -> Path:
        step = build_step(subject.config, prepared, subject.phase)
        batches = open_batches(subject.config, prepared, subject.phase, 0)
        text = _METADATA.sub("", step.hlo(batches.element_spec)).encode()
        data = lzma.compress(text) if to.suffix == ".xz" else text
        write_whole(to, lambda file: file.write(data))
        return to

    pools = [layer for layer in prepared.model.layers if layer.name == _POOLING]
    if not pools:
        return [write(path)]
    with_own, with_theirs = _calls(pools[0])
    with_own()
    written = [write(path)]
    with_theirs()
    name, *endings = path.name.split(".", 1)
    return [*written, write(path.with_name(".".join([f"{name}-scatter", *endings])))]


def _calls(layer: keras.Layer) -> tuple[Callable[[], None], Callable[[], None]]:
    """What gives a layer of max-pooling our gradient, and TensorFlow's."""

    def own() -> None:
        layer.call = max_pool

    def theirs() -> None:
        layer.call = lambda inputs: keras.layers.MaxPooling2D.call(layer, inputs)

    return own, theirs
