"""Evaluation of a finished or stopped run from its folder."""

from __future__ import annotations

from fastcifar import runtime
from fastcifar.config import RunConfig
from fastcifar.data.records import refusing_damage
from fastcifar.data.split import Splits
from fastcifar.errors import RunDirError, SourceError
from fastcifar.evaluation.evaluate import Evaluation, Evaluator
from fastcifar.rundir import RunDir
from fastcifar.training import checkpoints, transforms
from fastcifar.training.assembly import build_network, load_splits, per_replica_batch_size
from fastcifar.training.checkpoints import Checkpoints
from fastcifar.training.progress import Display
from fastcifar.training.state import AVERAGES, WEIGHTS, check_names


def evaluate_run(
    run_dir: str,
    config: RunConfig,
    *,
    checkpoint: str = "last",
    views: str = "none",
    display: Display | None = None,
) -> tuple[Evaluation, Splits]:
    """Evaluate a run's weights on the test split of `config.data`; return it with the splits.

    Args:
        run_dir: the run folder.
        config: the run's configuration, possibly with another source.
        checkpoint: `last`, or `best` by validation accuracy.
        views: test-time augmentation, of `fastcifar.augment.test_time.VIEWS`.
        display: where progress is shown; nowhere by default.

    Raises:
        RunDirError: if there is no such checkpoint, or it does not fit the configuration.
        SourceError: if the source's classes are not those of the run.
    """
    display = display or Display(quiet=True)
    run = RunDir.open(run_dir)
    kept = Checkpoints(run.checkpoints_path)
    path = kept.newest() if checkpoint == "last" else kept.best()
    arrays, _ = checkpoints.load(path)
    chosen = runtime.setup(config.runtime)
    per_replica_batch_size(config.global_batch_size, chosen.replicas)
    splits = load_splits(config.data, seed=config.seed, progress=display.count)
    summary = run.read_summary()
    if summary and tuple(summary["class_names"]) != splits.class_names:
        raise SourceError(
            f"the source must have the classes of the run: {', '.join(summary['class_names'])}. "
            f"Received: {', '.join(splits.class_names)}"
        )
    with chosen.strategy.scope():
        model = build_network(config, chosen, num_classes=len(splits.class_names))
    # Where averages of the weights were kept, it is them that the run evaluates.
    weights = {
        name.removeprefix(kind): array
        for kind in (WEIGHTS, AVERAGES)
        for name, array in arrays.items()
        if name.startswith(kind)
    }
    if not weights:
        raise RunDirError(f"checkpoint {path} holds no weights")
    check_names({v.path: tuple(v.shape) for v in model.variables}, weights)
    for variable in model.variables:
        variable.assign(weights[variable.path])
    made = transforms.make(
        config.data,
        config.model,
        config.phases[-1],
        train_size=config.phases[-1].image_size,
        num_classes=len(splits.class_names),
        seed=config.seed,
        dtype=chosen.compute_dtype,
    )
    evaluator = Evaluator(
        model=model,
        preprocess=made.for_evaluation,
        strategy=chosen.strategy,
        xla=chosen.xla,
        global_batch_size=config.global_batch_size,
        views=views,
        hosted=chosen.hosted,
    )
    with refusing_damage():
        return evaluator(splits.test), splits
