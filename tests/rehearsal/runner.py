"""Train on stand-in GPUs, one configuration after the other: runner.py JSON, see `stand_in`."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from fastcifar import arguments, runtime

# Nothing is computed, so what the host reads is told: sizes in bytes, and what is there.
_TOTALS = struct.pack("5d", 1.0, 1.0, 32.0, 0.0, -1.0)  # of a call of the train step
_ANSWERS = {
    1: b"\0",  # of a loop that asks the device whether there is another step
    4: struct.pack("f", 1.0),  # a loss
    len(_TOTALS): _TOTALS,
}
# (bytes of the predictions of a batch: int64, of which zeros are read)
_BATCHES = (8 * 16, 8 * 32)


def main() -> None:
    asked = json.loads(sys.argv[1])
    words = [run["arguments"].split() for run in asked["runs"]]
    runtime.prepare_environment(arguments.parse_train(words[0]).config.runtime)

    from fastcifar.models import resnet

    resnet.BLOCKS[14] = asked["blocks"]
    driver = ctypes.CDLL("libcuda.so.1")
    for size, known in _ANSWERS.items():
        _answer(driver, size, known)
    for run, given in zip(asked["runs"], words, strict=True):
        log = Path(run["log"])
        try:
            if run["whole"]:
                _train(given, driver, log)
            else:
                _step(given, driver, log, asked["steps"])
            problem = ""
        except BaseException:
            problem = traceback.format_exc()
        log.with_suffix(".problem").write_text(problem)
    sys.stdout.flush()
    os._exit(0)  # threads that prefetch have brought the process down at its end


def _answer(driver: Any, size: int, known: bytes) -> None:
    driver.rehearsal_answer(ctypes.c_size_t(size), known, ctypes.c_size_t(len(known)))


def _step(given: list[str], driver: Any, log: Path, steps: int) -> None:
    """Log one call of the compiled step, fed by the real input."""
    from fastcifar.bench.subject import Subject
    from fastcifar.training.phase import build_step, open_batches
    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    config = arguments.parse_train(given).config
    prepared = prepare(config, Display())
    subject = Subject.of(config, prepared)
    step = build_step(subject.config, prepared, subject.phase)
    batches = open_batches(subject.config, prepared, subject.phase, 0)
    # Compiled and prefetched in two calls, so that what is logged is of the third alone.
    step(batches, 0, 1).numpy()
    step(batches, 1, 1).numpy()
    time.sleep(0.3)
    driver.rehearsal_start(str(log).encode())
    step(batches, 2, steps).numpy()
    driver.rehearsal_stop()
    _KEPT.append(batches)


# An iterator that is let go while it fetches for several devices has brought the process down.
_KEPT: list[Any] = []


def _train(given: list[str], driver: Any, log: Path) -> None:
    """Log a whole `fastcifar train`."""
    from fastcifar import cli
    from fastcifar.training import divergence

    # The state is what lay in memory, since nothing has computed it: sometimes not finite.
    divergence.check_state = lambda *_: None
    for size in _BATCHES:
        _answer(driver, size, b"")
    driver.rehearsal_start(str(log).encode())
    with tempfile.TemporaryDirectory() as folder:
        status = cli.main(["train", *given, "--run-dir", f"{folder}/run"])
    driver.rehearsal_stop()
    if status:
        raise SystemExit(f"fastcifar train has ended with status {status}")


main()
