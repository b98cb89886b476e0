"""Train a few steps on stand-in GPUs: runner.py JSON ARGUMENTS…, see `stand_in.rehearse`."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import time

from fastcifar import arguments, runtime


def main() -> None:
    asked = json.loads(sys.argv[1])
    config = arguments.parse_train(sys.argv[2:]).config
    runtime.prepare_environment(config.runtime)

    from fastcifar.bench.subject import Subject
    from fastcifar.models import resnet
    from fastcifar.training.phase import build_step, open_batches
    from fastcifar.training.preparation import prepare
    from fastcifar.training.progress import Display

    if asked["small"]:
        resnet.BLOCKS[14] = (1,)
    driver = ctypes.CDLL("libcuda.so.1")
    prepared = prepare(config, Display())
    subject = Subject.of(config, prepared)
    step = build_step(subject.config, prepared, subject.phase)
    batches = open_batches(subject.config, prepared, subject.phase, 0)
    # What a loop asks the device, if it asks: whether there is another step.
    driver.rehearsal_answer(ctypes.c_size_t(1), b"\0")
    # Compiled and prefetched in two calls, so that what is logged is of the third alone.
    step(batches, 0, 1).numpy()
    step(batches, 1, 1).numpy()
    time.sleep(0.5)
    totals = struct.pack("5d", 1.0, 1.0, 1.0, 0.0, -1.0)
    driver.rehearsal_answer(ctypes.c_size_t(len(totals)), totals)
    driver.rehearsal_start(asked["log"].encode())
    print("read", step(batches, 2, asked["steps"]).numpy().tolist())
    driver.rehearsal_stop()
    sys.stdout.flush()
    os._exit(0)  # threads that prefetch have brought the process down at its end


main()
