"""The stages between memory and device: the host's pipeline alone, and the transfer."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from fastcifar.bench import subject as subjects
from fastcifar.bench.measure import Contender, seconds_of
from fastcifar.bench.pipelines import consumer
from fastcifar.bench.record import OK
from fastcifar.bench.stage_names import DECODE, READ
from fastcifar.bench.subject import Subject
from fastcifar.config import DataConfig
from fastcifar.data.pipeline import batches_ahead
from fastcifar.data.records import RecordSplit
from fastcifar.data.split import Examples
from fastcifar.training.phase import host_batches


def paid_each_step(data: DataConfig, split: Examples) -> str | None:
    """The stage of `read` and `decode` that every step pays; None where images lie decoded.

    Args:
        data: says how images are kept.
        split: the training images, in memory or on disk.
    """
    if data.order != "permutation" or data.cache == "device":
        return None  # both hold decoded images in memory, whatever else is asked for
    if isinstance(split, RecordSplit) or data.cache == "disk":
        return READ
    return DECODE if data.cache == "none" else None


def input_contender(
    name: str, subject: Subject, share: float, *, images: bool = True, transformed: bool = True
) -> Contender:
    """The host's pipeline, consumed as fast as it delivers.

    Args:
        name: of the contender.
        subject: what is measured.
        share: of the seconds of a piece.
        images: with the images, or with nothing but their places in the set.
        transformed: with what the host does to the images, or without.
    """
    phase, config = subject.phase, subject.config
    if not images:
        # What is kept on the device is fetched there: the host delivers places.
        data = dataclasses.replace(config.data, cache="device", transfer="uint8")
        config = dataclasses.replace(config, data=data)
    if not transformed:
        phase = dataclasses.replace(
            phase, transforms=dataclasses.replace(phase.transforms, on_host=None)
        )
    replicas = subject.prepared.runtime.replicas
    per_batch = subject.config.global_batch_size / replicas
    batches = 1

    def run() -> float:
        consume(iterator, tf.constant(batches, tf.int64)).numpy()
        return batches * per_batch

    with tf.device("CPU:0"):
        iterator = iter(host_batches(config, subject.prepared, phase, 0))
        consume = consumer()

    def drain() -> None:
        # What was prepared while others were measured would come for nothing.
        data = subject.config.data
        for _ in range(batches_ahead(prefetch=data.prefetch, parallel_map=data.parallel_map)):
            next(iterator)

    def calibrate() -> str:
        nonlocal batches
        run()  # traces
        batches = 4
        drain()
        seconds = seconds_of(run) / batches
        batches = max(1, round(share * subjects.PIECE_S / seconds))
        return OK

    return Contender(name, run, check=calibrate, before=drain)


def transfer_contender(name: str, subject: Subject, share: float) -> Contender:
    """One replica's slice of a batch from the host's memory to a GPU's, again and again."""
    gpus = tf.config.list_logical_devices("GPU")
    copies = 1

    def run() -> float:
        moved = None
        for _ in range(copies):
            with tf.device(gpus[0].name):
                moved = tf.identity(images)
        tf.reshape(moved, [-1])[0].numpy()  # waits for the last one
        return float(copies * len(images))

    if not gpus:
        return Contender(name, run, check=lambda: "not applicable: a CPU computes where data lies")
    with tf.device("CPU:0"):
        dataset = host_batches(subject.config, subject.prepared, subject.phase, 0)
        images = tf.identity(next(iter(dataset)).images)

    def calibrate() -> str:
        nonlocal copies
        run()
        copies = 8
        seconds = min(seconds_of(run) for _ in range(2)) / copies
        copies = max(1, round(share * subjects.PIECE_S / seconds))
        return OK

    return Contender(name, run, check=calibrate)
