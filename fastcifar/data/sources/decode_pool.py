"""Decoding on all cores: blocks of encoded images in, blocks of pixels out, in the same order.

Processes, not threads: Pillow holds Python's lock for most of the work on a small image, so threads
only take turns there, while processes gain on images of every size. Starting them costs about half
a second (they import NumPy and Pillow, not TensorFlow), so a small set is decoded in place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import os
import signal
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from fastcifar.data.sources.decoding import (
    NonSquare,
    UnreadableImage,
    fit,
    measure,
)
from fastcifar.data.sources.decoding import (
    decode_in_range as decode,
)
from fastcifar.errors import SourceError
from fastcifar.surroundings import settle_sockets

# An encoded image, its bytes or the path of its file; or pixels, uint8 [h, w, 3] or [h, w].
Item = bytes | str | np.ndarray
# Labels int64 [m] and as many images.
Chunk = tuple[np.ndarray, Sequence[Item]]

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

# Seconds that decoding takes on one core, roughly: so much an image and so much a byte of it
# (measured on JPEG of 32 to 448 pixels). Processes are worth their start from `_PROCESSES_FROM_S`.
_IMAGE_S, _BYTE_S = 60e-6, 30e-9
_PROCESSES_FROM_S = 2.0

# Blocks that may wait for each worker: enough that none idles, few enough to bound the memory.
_AHEAD = 2
# Pixels that a block may hold decoded; a chunk that would hold more is cut.
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Block:
    """Decoded images in the order of their set.

    Attributes:
        images: uint8 [m, S, S, 3]; the readable ones.
        labels: int64 [m].
        shapes: int64 [n, 2], n >= m: height and width of all in the files; 0 where unreadable.
        faults: what is wrong with the unreadable ones, by index in `shapes`, and their labels.
        peaks: int64 [n], the largest value in files of more than 8 bits a value; 0 for others.
        turned: how many are to be shown turned or mirrored, by their EXIF.
    """

    images: np.ndarray
    labels: np.ndarray
    shapes: np.ndarray
    faults: dict[int, tuple[str, int]]
    peaks: np.ndarray
    turned: int


class DecodePool:
    """Decodes on `workers` cores while it is open (a context manager).

    Args:
        workers: processes; with 1 the caller's own process decodes.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> DecodePool:
        if self.workers > 1:
            self._executor = ProcessPoolExecutor(
                self.workers, mp_context=_context(), initializer=_start_worker
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def blocks(
        self, chunks: Iterable[Chunk], size: int, non_square: NonSquare, bits: int = 16
    ) -> Iterator[Block]:
        """Decode chunks of encoded images, in order.

        Args:
            chunks: labels and encoded images; pulled from as the work proceeds.
            size: storage size in pixels.
            non_square, bits: see `fastcifar.data.sources.decoding.decode_in_range`.

        Raises:
            SourceError: if a worker dies.
        """
        most = max(1, _BLOCK_BYTES // (3 * size * size))
        tasks = ((part, size, non_square, bits) for chunk in chunks for part in _cut(chunk, most))
        return self._map(_decode_block, tasks)

    def _map(
        self, function: Callable[[_Argument], _Result], arguments: Iterable[_Argument]
    ) -> Iterator[_Result]:
        if self._executor is None:
            with _quiet():
                yield from map(function, arguments)
            return
        waiting: deque[Future[_Result]] = deque()
        delivered = 0
        try:
            for argument in arguments:
                waiting.append(self._executor.submit(function, argument))
                if len(waiting) > _AHEAD * self.workers:
                    yield waiting.popleft().result()
                    delivered += 1
            while waiting:
                yield waiting.popleft().result()
                delivered += 1
        except BrokenProcessPool as error:
            script = (
                # They import the script that started them, and one without this starts itself.
                ". In a script of your own, put what it does under `if __name__ == '__main__':`"
                if not delivered
                else ""
            )
            raise SourceError(
                "a process that decodes images was ended from outside, perhaps for want of memory: "
                f"free some, or let `fastcifar prepare` do it with --workers 1{script}"
            ) from error


def start_ahead() -> None:
    """Begin to start what workers are forked from, while the caller has other things to do."""
    _context()
    multiprocessing.forkserver.ensure_running()


def _context() -> multiprocessing.context.ForkServerContext:
    # Not forked from this process: a fork of TensorFlow's threads may hang. Forked from a small
    # one, which has imported what they need once for all.
    settle_sockets()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def workers_for(count: int, encoded_bytes: int, cores: int) -> int:
    """Return how many processes to decode `count` images with: 1 or `cores`.

    Args:
        count: images.
        encoded_bytes: size of their files together.
        cores: those this process may use.
    """
    return cores if count * _IMAGE_S + encoded_bytes * _BYTE_S >= _PROCESSES_FROM_S else 1


def measure_items(items: Iterable[Item]) -> np.ndarray:
    """Return height and width of each readable image: int64 [m, 2], by the files' headers."""
    shapes = []
    with _quiet():
        for item in items:
            with contextlib.suppress(UnreadableImage):
                if isinstance(item, np.ndarray):
                    shapes.append(item.shape[:2])
                else:
                    shapes.append(measure(_read(item)))
    return np.array(shapes, dtype=np.int64).reshape(-1, 2)


def _cut(chunk: Chunk, most: int) -> Iterator[Chunk]:
    labels, items = chunk
    for start in range(0, len(items), most):
        yield labels[start : start + most], items[start : start + most]


def _decode_block(task: tuple[Chunk, int, NonSquare, int]) -> Block:
    (labels, items), size, non_square, bits = task
    images = np.empty((len(items), size, size, 3), np.uint8)
    shapes = np.zeros((len(items), 2), np.int64)
    peaks = np.zeros(len(items), np.int64)
    turned = 0
    faults: dict[int, tuple[str, int]] = {}
    readable = np.ones(len(items), dtype=bool)
    for index, item in enumerate(items):
        try:
            if isinstance(item, np.ndarray):
                images[index], shapes[index] = fit(item, size, non_square), item.shape[:2]
            else:
                decoded = decode(_read(item), size, non_square, bits)
                images[index], shapes[index], peaks[index] = decoded[:3]
                turned += decoded.turned
        except UnreadableImage as error:
            faults[index] = (str(error), int(labels[index]))
            readable[index] = False
    if faults:
        images, labels = images[readable], labels[readable]
    return Block(images, labels, shapes, faults, peaks, turned)


def _read(item: bytes | str) -> bytes:
    if isinstance(item, bytes):
        return item
    try:
        # Asked first: opening a pipe would wait for whoever writes to it.
        if not stat.S_ISREG(os.stat(item).st_mode):
            raise UnreadableImage("not a file")
        with open(item, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise UnreadableImage(
            "a broken link" if os.path.islink(item) else "it does not exist"
        ) from error
    except PermissionError as error:
        raise UnreadableImage("no permission to read it") from error
    except OSError as error:
        raise UnreadableImage(error.strerror or "it cannot be read") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        _ignore_pillow()
        yield


def _ignore_pillow() -> None:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound is checked here
    warnings.simplefilter("ignore", UserWarning)  # on odd but readable metadata


def _start_worker() -> None:
    _ignore_pillow()
    # Ctrl-C goes to the whole group of processes; the parent answers it and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        # A parent that is killed cannot end its workers, and they would wait for ever.
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
