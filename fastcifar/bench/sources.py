"""What each way to bring images costs: the first use, every later use, the rate, the memory.

    python -m fastcifar.bench.sources FOLDER [--archive FILE] [--out FILE] [--rounds N]

FOLDER holds train and test folders of class folders. Every use runs in a process of its own, with
a cache folder that is empty before the first. A use begins when TensorFlow is imported and ends
when the splits are ready; the rate is that of training batches of 512 after it; the memory is the
peak of the process, and how much of it came after TensorFlow. In the last rows batches of prepared
records and of `keras.utils.image_dataset_from_directory`, over the same images, take turns in one
process, and preparing takes turns with one worker and with one for each core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from fastcifar import environment
from fastcifar.bench import plots, tables
from fastcifar.bench.record import Record, RecordFile, Row
from fastcifar.bench.statistics import paired_ratio, spread
from fastcifar.errors import FastcifarError
from fastcifar.paths import given_path

_BATCH = 512
_SMALL_BUDGET = "1MB"  # nothing fits
KERAS_ROW = "image_dataset_from_directory"


def main() -> int:
    """Measure all ways and show the table; return the exit status: 1 where a row failed."""
    parser = argparse.ArgumentParser(prog="python -m fastcifar.bench.sources")
    parser.add_argument("folder", type=given_path)
    parser.add_argument("--archive", help="an archive of CIFAR-10 in the official layout")
    parser.add_argument("--out", default="runs/bench-sources.json")
    parser.add_argument("--rounds", type=int, default=5)
    # A child: one use, as JSON on stdout; what is prepared once is there already `--again`.
    parser.add_argument("--use", help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.use:
        print(json.dumps(_CHILDREN[given.use](given)))
        return 0
    command = "python -m fastcifar.bench.sources " + " ".join(sys.argv[1:])
    config = {"folder": str(given.folder), "batch": _BATCH, "rounds": given.rounds}
    file = RecordFile(given.out, Record("sources", command, environment.fingerprint(), config))
    for row in _rows(given):
        file.put(row)
        print(f"measured: {row.name}", file=sys.stderr, flush=True)
    tables.show(file.record)
    written = [given.out, *plots.write_plots(given.out, file.record)]
    print(f"record: {', '.join(map(str, written))}")
    return 1 if tables.failed(file.record) else 0


def _rows(given: argparse.Namespace) -> Iterator[Row]:
    for name in _WAYS:
        if name.startswith("tfds") and given.archive is None:
            yield Row(name, check="not applicable: no --archive")
            continue
        with tempfile.TemporaryDirectory(prefix="fastcifar-bench-") as cache:
            try:
                first = _in_a_process(name, given, cache)
                second = _in_a_process(name, given, cache, "--again")
            except RuntimeError as error:
                if "cannot be reached" in str(error):
                    yield Row(name, check="not applicable: not downloaded, and no network")
                else:
                    yield Row(name, error=str(error))
                continue
        yield Row(
            name,
            spread(second["images_per_s"]),
            figures={
                "first_use_s": first["use_s"],
                "second_use_s": second["use_s"],
                "peak_mb": second["peak_bytes"] / 1e6,
                "beside_tensorflow_mb": second["over_tensorflow_bytes"] / 1e6,
                "images": second["images"],
            },
        )
    for comparison in (RECORDS_ROW, PARALLEL_ROW):
        with tempfile.TemporaryDirectory(prefix="fastcifar-bench-") as cache:
            try:
                rates = _in_a_process(comparison, given, cache)
            except RuntimeError as error:
                yield Row(comparison, error=str(error))
                continue
        (one, mine), (other, theirs) = rates.items()
        yield Row(other, spread(theirs))
        yield Row(one, spread(mine), ratios={other: paired_ratio(mine, theirs)})


def _in_a_process(name: str, given: argparse.Namespace, cache: str, *again: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, str(given.folder), "--use", name, *again]
    command += ["--rounds", str(given.rounds)]
    if given.archive:
        command += ["--archive", given.archive]
    run = subprocess.run(
        command,
        env=os.environ | {"FASTCIFAR_CACHE": cache, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(" ".join(run.stderr.splitlines()[-1:]) or "failed")
    return json.loads(run.stdout.splitlines()[-1])


def _measured_use(config: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """One use: load as training does, then read batches."""
    import psutil
    import tensorflow as tf

    tf.config.list_physical_devices()
    before = psutil.Process().memory_info().rss
    from fastcifar.config import DataConfig
    from fastcifar.data.sources.cifar_archive import prepare_archive
    from fastcifar.data.sources.preparation import prepare
    from fastcifar.training.assembly import load_splits

    prepared = config.pop("prepared", False)
    data = DataConfig(**config)
    began = time.perf_counter()
    if data.source == "tfds" and not given.again:
        prepare_archive("cifar10", given.archive, data_path=data.data_path, trust=True)
    if prepared and not given.again:
        prepare(data.source, data_path=data.data_path)
    splits = load_splits(data, seed=0)
    use_s = time.perf_counter() - began
    rates = [_batches_rate(splits.train) for _ in range(given.rounds)]
    peak = environment.peak_host_bytes()
    return {
        "use_s": use_s,
        "images_per_s": rates,
        "peak_bytes": peak,
        "over_tensorflow_bytes": peak - before,
        "images": sum(len(split) for split in splits.all()),
    }


def _batches_rate(split: Any) -> float:
    from fastcifar.data import pipeline

    size = _batch_size(split)
    dataset = pipeline.train_batches(
        split,
        global_batch_size=size,
        replicas=1,
        seed=0,
        first_step=0,
        last_step=len(split) // size,
    )
    return _rate(dataset)


def _batch_size(split: Any) -> int:
    """A pass of a small set must have a few batches too, as the first is outside of the clock."""
    return max(1, min(_BATCH, len(split) // 4))


def _rate(dataset: Any) -> float:
    """Images/s of a pass, the first batch (which starts the threads) outside of the clock."""
    iterator = iter(dataset)
    next(iterator)
    began, images = time.perf_counter(), 0
    for batch in iterator:
        images += int(batch[1].shape[0])
    return images / (time.perf_counter() - began)


def _compare_records(given: argparse.Namespace) -> dict[str, list[float]]:
    """Batches of records against Keras' reading of the folder, by turns."""
    import keras

    from fastcifar.data.sources.image_folder import load_image_folder
    from fastcifar.data.sources.ingest import ReadOptions

    train = load_image_folder(str(given.folder), ReadOptions(memory_budget=1)).train
    height, width, _ = train.image_shape
    theirs = keras.utils.image_dataset_from_directory(
        str(given.folder / "train"),
        image_size=(height, width),
        batch_size=_batch_size(train),
        shuffle=False,
        verbose=False,
    )
    rates: dict[str, list[float]] = {RECORDS_ROW: [], KERAS_ROW: []}
    for _ in range(given.rounds):
        rates[RECORDS_ROW].append(_batches_rate(train))
        rates[KERAS_ROW].append(_rate(theirs))
    return rates


def _compare_workers(given: argparse.Namespace) -> dict[str, list[float]]:
    """Images decoded and laid out in a second, with all cores and with one, by turns."""
    import shutil

    import tensorflow_datasets as tfds

    from fastcifar.data.sources import decode_pool, delivery
    from fastcifar.data.sources.image_folder import encoded_set
    from fastcifar.data.sources.ingest import ReadOptions
    from fastcifar.data.storage import cache_folder

    data = encoded_set(given.folder, ReadOptions())
    total = sum(split.count for split in data.splits.values())
    decode_pool.start_ahead()
    tfds.features.ClassLabel(num_classes=2)  # imported before the clock starts
    rates: dict[str, list[float]] = {PARALLEL_ROW: [], SERIAL_ROW: []}
    for _ in range(given.rounds):
        for name, workers in ((PARALLEL_ROW, environment.usable_cores()), (SERIAL_ROW, 1)):
            shutil.rmtree(cache_folder(), ignore_errors=True)
            began = time.perf_counter()
            delivery.prepare(data, ReadOptions(workers=workers))
            rates[name].append(total / (time.perf_counter() - began))
    return rates


def _way(**config: Any) -> Callable[[argparse.Namespace], dict[str, Any]]:
    def use(given: argparse.Namespace) -> dict[str, Any]:
        ready = {
            key: value.format(folder=given.folder, cache=os.environ["FASTCIFAR_CACHE"])
            if isinstance(value, str)
            else value
            for key, value in config.items()
        }
        return _measured_use(ready, given)

    return use


def _csv(given: argparse.Namespace) -> dict[str, Any]:
    """The same images by a CSV, which must lie in their folder, for as long as it takes."""
    table = given.folder / "fastcifar-bench.csv"
    with table.open("w", encoding="utf-8") as file:
        file.write("file,label,split\n")
        for path in sorted(given.folder.glob("t*/*/*")):
            split, label, name = path.relative_to(given.folder).parts
            file.write(f"{split}/{label}/{name},{label},{split}\n")
    try:
        return _measured_use({"source": "image_folder", "data_path": str(table)}, given)
    finally:
        table.unlink()


RECORDS_ROW = "prepared records"
PARALLEL_ROW, SERIAL_ROW = "prepare, all cores", "prepare, one core"
_WAYS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "tfds": _way(source="tfds", data_path="{cache}/tfds"),
    "tfds, prepared": _way(source="tfds", data_path="{cache}/tfds", prepared=True),
    "keras": _way(source="keras"),
    "image_folder": _way(source="image_folder", data_path="{folder}"),
    "image_folder, prepared": _way(source="image_folder", data_path="{folder}", prepared=True),
    "image_folder, on disk": _way(
        source="image_folder", data_path="{folder}", memory_budget=_SMALL_BUDGET
    ),
    "csv": _csv,
    "synthetic": _way(source="synthetic", synthetic_count=50_000),
    "synthetic, on disk": _way(
        source="synthetic", synthetic_count=50_000, memory_budget=_SMALL_BUDGET
    ),
}
_CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    **_WAYS,
    RECORDS_ROW: _compare_records,
    PARALLEL_ROW: _compare_workers,
}

if __name__ == "__main__":
    try:
        sys.exit(main())
    except FastcifarError as error:
        sys.exit(f"fastcifar: error: {error}")
