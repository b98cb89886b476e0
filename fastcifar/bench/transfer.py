"""Does transfer pay? Pretrain on half of the classes, learn the other half from a few images.

    python -m fastcifar.bench.transfer FOLDER --out FILE

FOLDER holds train/CLASS/* and test/CLASS/*. Every other class is for pretraining. On the rest, each
for some images a class and several seeds, with the same number of steps:

    scratch     all of the network, from random weights
    head        the head alone, on the frozen pretrained backbone
    finetune    the head for a quarter of the epochs, then all of it

Each run is a `fastcifar train` of its own, with a configuration that stands in the record.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcifar import config_file, environment, recipes
from fastcifar.bench import plots
from fastcifar.bench.record import Record, RecordFile, Row
from fastcifar.config import RunConfig
from fastcifar.errors import FastcifarError, SourceError
from fastcifar.paths import given_path

SCRATCH, HEAD, FINETUNE = "scratch", "head", "finetune"
WAYS = (SCRATCH, HEAD, FINETUNE)
# Highest rates of AdamW: of a new head, and of a network that is trained already.
_HEAD_RATE, _FINETUNE_RATE = 3e-3, 3e-4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        folder: of the images.
        per_class: images a class to learn from, each a comparison.
        seeds: runs of each.
        pretrain_epochs: on the first half of the classes.
        epochs: passes over the images to learn from: as many for each way.
        limit_pretrain: images to pretrain on; all by default.
    """

    folder: Path
    per_class: tuple[int, ...] = (100, 500)
    seeds: int = 3
    pretrain_epochs: int = 5
    epochs: int = 20
    limit_pretrain: int | None = None


def halve(folder: Path, into: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lay every other class out under `into`/known, the others under `into`/new, by hard links.

    Returns:
        the class names of each.

    Raises:
        SourceError: if `folder` has no train and test folders with four classes or more.
    """
    names = sorted(p.name for p in (folder / "train").glob("*") if p.is_dir())
    if len(names) < 4 or not (folder / "test").is_dir():
        raise SourceError(
            f"{str(folder)!r} must hold train/CLASS/* and test/CLASS/* of four classes or more. "
            f"Received: {len(names)} classes"
        )
    known, new = tuple(names[::2]), tuple(names[1::2])
    for half, chosen in (("known", known), ("new", new)):
        for split in ("train", "test"):
            for name in chosen:
                shutil.copytree(
                    folder / split / name, into / half / split / name, copy_function=_link
                )
    return known, new


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def configuration(way: str, plan: Plan, per_class: int, classes: int, seed: int) -> RunConfig:
    """The configuration of one run; its folders come by flags."""
    base = recipes.get("cifar10-32px")
    images = per_class * classes
    (phase,) = base.phases
    phase = dataclasses.replace(phase, epochs=plan.epochs, warmup_epochs=0.0)
    head = dataclasses.replace(phase, trainable="head", learning_rate=_HEAD_RATE, name="head")
    if way == HEAD:
        phases: tuple[Any, ...] = (head,)
    elif way == FINETUNE:
        first = max(1, plan.epochs // 4)
        rest = dataclasses.replace(
            phase, epochs=plan.epochs - first, learning_rate=_FINETUNE_RATE, name="all"
        )
        phases = (dataclasses.replace(head, epochs=first), rest)
    else:
        phases = (phase,)
    # The split to learn from is small as it is: nothing is held out, nothing is chosen by it.
    data = dataclasses.replace(base.data, limit_train=images, validation_fraction=0.0)
    return dataclasses.replace(
        base,
        recipe=f"transfer-{way}",
        seed=seed,
        global_batch_size=min(64, images // 4),
        data=data,
        phases=phases,
    )


def measure(plan: Plan, record: RecordFile) -> None:
    """Run everything; rows are put as they come.

    Raises:
        SourceError: if the folder does not hold what it must.
        FastcifarError: if a run fails.
    """
    with tempfile.TemporaryDirectory() as work:
        room = Path(work)
        known, new = halve(plan.folder, room)
        flags = ["--augment", "flip-crop", "--epochs", str(plan.pretrain_epochs)]
        if plan.limit_pretrain is not None:
            flags += ["--limit-train", str(plan.limit_pretrain)]
        pretrained = _train(room / "known", room / "pretrained", ["cifar10-32px", *flags])
        figures = _figures([pretrained]) | {"classes": list(known)}
        record.put(Row("pretraining", figures=figures))
        for per_class in plan.per_class:
            for way in WAYS:
                runs = []
                for seed in range(plan.seeds):
                    config = configuration(way, plan, per_class, len(new), seed)
                    path = room / "config.json"
                    path.write_text(json.dumps(config_file.to_dict(config)))
                    flags = ["--config", str(path)]
                    if way != SCRATCH:
                        flags += ["--weights", str(room / "pretrained")]
                    runs.append(_train(room / "new", room / f"{way}-{per_class}-{seed}", flags))
                    figures = _figures(runs) | {"classes": list(new)}
                    record.put(Row(f"{way}/{per_class}", figures=figures))


def _train(images: Path, run: Path, flags: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "fastcifar", "train", *flags]
    command += ["--source", "image_folder", "--data-path", str(images), "--run-dir", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FastcifarError(f"a run failed: {done.stderr.strip().splitlines()[-1]}")
    print(f"{run.name}: {done.stdout.strip().splitlines()[-2]}", flush=True)
    return json.loads((run / "summary.json").read_text())


def _figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [run["test_accuracy"] for run in runs]
    return {
        "test_accuracy": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(runs) > 1 else None,
        "runs": len(runs),
        "test_accuracies": accuracies,
        "train_accuracy": statistics.mean(run["train_accuracy"] for run in runs),
        "epochs": runs[0]["epochs"],
        "steps": runs[0]["steps"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fastcifar.bench.transfer", description=str(__doc__).split("\n", 1)[0]
    )
    parser.add_argument("folder", type=given_path)
    parser.add_argument("--out", type=given_path, required=True)
    parser.add_argument("--per-class", type=int, nargs="+", default=list(Plan.per_class))
    for name in ("seeds", "pretrain_epochs", "epochs"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Plan, name))
    parser.add_argument("--limit-pretrain", type=int)
    given = parser.parse_args(argv)
    plan = Plan(
        folder=given.folder,
        per_class=tuple(given.per_class),
        seeds=given.seeds,
        pretrain_epochs=given.pretrain_epochs,
        epochs=given.epochs,
        limit_pretrain=given.limit_pretrain,
    )
    described = dataclasses.asdict(plan) | {"folder": "DIR"}
    flags = " ".join(arg for arg in (argv or sys.argv[1:]) if arg != str(given.folder))
    command = f"python -m fastcifar.bench.transfer DIR {flags}"
    record = Record("transfer", command, environment.fingerprint(), described)
    file = RecordFile(given.out, record)
    try:
        measure(plan, file)
    except FastcifarError as error:
        print(f"fastcifar: error: {error}", file=sys.stderr)
        return error.exit_status
    finally:
        plots.write_plots(given.out, file.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
