"""Evaluation of a whole split, as training does it after each epoch."""

from fastcifar.evaluation.evaluate import Evaluator


def test_a_split_is_evaluated(benchmark, subject):
    prepared = subject.prepared
    evaluator = Evaluator(
        model=prepared.model,
        preprocess=subject.phase.transforms.for_evaluation,
        strategy=prepared.runtime.strategy,
        xla=prepared.runtime.xla,
        global_batch_size=subject.config.global_batch_size,
    )
    evaluator(prepared.splits.test)
    found = benchmark(lambda: evaluator(prepared.splits.test))
    assert len(found.predictions) == len(prepared.splits.test)
