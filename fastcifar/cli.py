"""The command line: parses, then imports TensorFlow, then calls the function that does the work.

One mistake, one line: every error that the user can mend is a single line on stderr, exit status 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcifar import __version__
from fastcifar.errors import ConfigError, FastcifarError, nearest, one_line
from fastcifar.surroundings import check_keras_json, settle_keras, settle_program
from fastcifar.wording import counted

_HELP = """\
usage: fastcifar COMMAND ...

Train ResNet50 on CIFAR-10 as fast as the hardware allows, and see where the time goes.

commands:
  train RECIPE [flags]     train a recipe into a run folder (fastcifar train --help: all flags)
  train --config FILE      train a configuration, such as another run's config.json
  train --resume --run-dir RUN
                           go on with a run from its newest checkpoint
  evaluate RUN [flags]     evaluate a run's weights on its test images, or on other ones
  recipes [NAME]           list recipes and augmentation policies, or show one in full
  prepare SOURCE [flags]   fetch, verify and lay out a data set once, for all runs
  augment POLICY [flags]   draw what a policy does to images; without a policy, list them
  bench KIND [flags]       measure: fastcifar bench --help

flags:
  --help, --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    settle_program()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except FastcifarError as error:
        label = "" if error.exit_status > 128 else "error: "  # stopped by a signal: no error
        print(f"fastcifar: {label}{one_line(error)}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("fastcifar: stopped at once; checkpoints written before this stay", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): what is still buffered must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "recipes": _recipes,
        "prepare": _prepare,
        "augment": _augment,
        "bench": _bench,
    }
    if not arguments:
        raise ConfigError(f"a command is needed: {', '.join(commands)}. fastcifar --help explains")
    first, *rest = arguments
    if first in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if first in ("-V", "--version"):
        print(f"fastcifar {__version__}")
        return 0
    if first not in commands:
        raise ConfigError(
            f"the command must be one of {', '.join(commands)}. "
            f"Received: {first!r}.{nearest(first, commands)}"
        )
    try:
        return commands[first](rest)
    except SystemExit as left:  # how tyro ends after --help
        return int(left.code or 0)


def _train(arguments: list[str]) -> int:
    from contextlib import nullcontext

    from fastcifar import arguments as flags
    from fastcifar import no_effect, rundir, runtime
    from fastcifar.augment import policies

    order = flags.parse_train(arguments)
    # A mistake here should not wait for TensorFlow.
    no_effect.refuse(order.config.data, no_effect.given_fields(order.config, order.typed))
    for phase in order.config.phases:
        policies.get(phase.augment)
    cluster = runtime.find_cluster(order.config.runtime)
    runtime.prepare_environment(order.config.runtime)
    _start_tensorflow()
    from fastcifar.reporting.plots import write_plots
    from fastcifar.training.progress import Display, figure
    from fastcifar.training.trainer import train

    display = Display()
    with nullcontext(order.run_dir) if order.names_folder else rundir.claimed(order.run_dir) as run:
        summary = train(
            order.config,
            str(run),
            resume=order.resume,
            allow_changed_data=order.allow_changed_data,
            display=display,
            typed=order.typed,
            notes_on_flags=order.notes,
        )
    chief = cluster is None or cluster.index == 0
    if chief:
        write_plots(run, warn=display.line)
    rate = summary["images_per_s"]
    display.line(
        f"test accuracy {summary['test_accuracy']:.4f}  test loss {figure(summary['test_loss'])}  "
        f"{summary.get('test_weights', 'last')} weights, of epoch "
        f"{summary.get('test_epoch', summary['epochs'])}  training {summary['train_s']:.1f} s"
        + (f"  {rate:,.0f} images/s" if rate else "")
        + f"  start-up {summary['startup_s']:.1f} s"
    )
    if chief:
        display.line(f"results: {run}/summary.json  plots: {run}/plots")
    return 0


def _evaluate(arguments: list[str]) -> int:
    from fastcifar import arguments as flags
    from fastcifar import no_effect, runtime

    order = flags.parse_evaluate(arguments)
    no_effect.refuse(order.config.data, order.typed)
    runtime.prepare_environment(order.config.runtime)
    _start_tensorflow()
    from fastcifar.training.evaluate_run import evaluate_run
    from fastcifar.training.progress import Display

    display = Display()
    _show_notes(display, no_effect.of_evaluation(order.config.data, order.typed))
    evaluation, splits = evaluate_run(
        order.run_dir,
        order.config,
        checkpoint=order.checkpoint,
        views=order.views,
        whole=order.whole,
        allow_changed_data=order.allow_changed_data,
        display=display,
    )
    display.line(
        f"test accuracy {evaluation.accuracy:.4f}  test loss {evaluation.loss:.4f}  "
        f"{counted(len(splits.test), 'image')}"
    )
    width = max(len(name) for name in splits.class_names)
    for name, row, right in zip(
        splits.class_names, evaluation.confusion, evaluation.confusion.diagonal(), strict=True
    ):
        total = int(row.sum())
        share = f"{right / total:.4f}" if total else "     -"
        display.line(f"  {name:<{width}}  {share}  {counted(total, 'image')}")
    return 0


def _recipes(arguments: list[str]) -> int:
    from fastcifar import recipes

    if any(argument in ("-h", "--help") for argument in arguments):
        print(
            "usage: fastcifar recipes [NAME]\n\n"
            "List the recipes and the augmentation policies, or show one in full: a recipe as\n"
            "`train --config FILE` reads it, a policy as its operations and their ranges."
        )
        return 0
    unknown = next((argument for argument in arguments if argument.startswith("-")), None)
    if unknown is not None:
        raise ConfigError(f"recipes has no flags. Received: {unknown!r}")
    if len(arguments) > 1:
        raise ConfigError(f"recipes takes one name. Received: {' and '.join(map(repr, arguments))}")
    from fastcifar.augment import policies

    if not arguments:
        width = max(map(len, (*recipes.names(), *policies.POLICIES)))
        print("recipes, for `fastcifar train RECIPE`:")
        for name in recipes.names():
            print(f"  {name:<{width}}  {recipes.describe(name)}")
        print("policies, for `--augment POLICY` and `fastcifar augment POLICY`:")
        for policy in policies.POLICIES.values():
            print(f"  {policy.name:<{width}}  {policy.description}")
        return 0
    (name,) = arguments
    if name in policies.POLICIES:
        print(policies.get(name).describe())
        return 0
    import json

    from fastcifar import config_file

    print(json.dumps(config_file.to_dict(recipes.get(name)), indent=2))
    return 0


def _prepare(arguments: list[str]) -> int:
    from fastcifar import arguments as flags
    from fastcifar import no_effect

    source, given = flags.parse_prepare(arguments)
    data, typed = given.data(source), no_effect.differing(given, flags.PrepareFlags())
    no_effect.refuse(data, typed)
    _start_tensorflow()
    from fastcifar.data.sources.ingest import ReadOptions
    from fastcifar.data.sources.preparation import prepare
    from fastcifar.training import opening
    from fastcifar.training.progress import Display

    display = Display()
    _show_notes(display, no_effect.of_preparing(data, typed, given))

    def found(class_names: Sequence[str], counts: Mapping[str, int]) -> None:
        for line in opening.lines(opening.of_set(class_names, counts)):
            display.line(line)

    try:
        options = ReadOptions(
            storage_size=given.storage_size,
            non_square=given.non_square,
            skip_unreadable=given.skip_unreadable,
            workers=given.workers,
            progress=display.count,
        )
        lines = prepare(
            source,
            dataset=given.dataset,
            data_path=given.data_path,
            archive=given.archive,
            trust_archive=given.trust_archive,
            options=options,
            found=found,
        )
    finally:
        display.close()
    for line in lines:
        display.line(line)
    return 0


def _augment(arguments: list[str]) -> int:
    from fastcifar import arguments as flags
    from fastcifar import no_effect
    from fastcifar.augment import policies
    from fastcifar.config import DataConfig

    if not arguments:
        for policy in policies.POLICIES.values():
            print(policy.describe())
        return 0
    name, given = flags.parse_augment(arguments)
    typed = no_effect.differing(given.data, DataConfig())
    no_effect.refuse(given.data, typed)
    policy = policies.get(name)
    _start_tensorflow()
    import numpy as np
    from PIL import Image

    from fastcifar.augment.grid import draw_many, grid
    from fastcifar.rundir import write_whole
    from fastcifar.training.assembly import load_splits
    from fastcifar.training.progress import Display

    display = Display()
    _show_notes(display, no_effect.of_drawing(given.data, typed))
    split = load_splits(given.data, seed=given.seed, progress=display.count).train
    # Evenly spread, because folders and prepared sets may be sorted by class.
    chosen = np.linspace(0, len(split) - 1, given.images).astype(np.int64)
    originals = split.take(chosen).in_memory().images
    side = given.image_size
    drawn = draw_many(
        policy,
        originals,
        count=given.draws,
        image_size=originals.shape[1:3] if side is None else (side, side),
        seed=given.seed,
        resize_method=given.resize_method,
    )
    picture = Image.fromarray(grid(originals, drawn, scale=given.scale))
    write_whole(Path(given.out), lambda file: picture.save(file, "PNG"))
    for line in policy.describe().splitlines():
        display.line(line)
    images, draws = counted(given.images, "image"), counted(given.draws, "draw")
    display.line(f"{images}, {draws} of each: {given.out}")
    return 0


def _show_notes(display: Any, notes: Sequence[str]) -> None:
    for note in notes:
        display.line(f"note: {note}")


def _bench(arguments: list[str]) -> int:
    from fastcifar.bench import commands

    return commands.run(arguments, _start_tensorflow)


def _start_tensorflow() -> None:
    """Import TensorFlow with its start-up chatter held back; shown if the import fails."""
    import tempfile

    check_keras_json()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            # The first look at the devices is chatty too.
            tf.config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
    tf.get_logger().setLevel("ERROR")
    settle_keras()


if __name__ == "__main__":
    sys.exit(main())
