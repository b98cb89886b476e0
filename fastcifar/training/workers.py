"""What the workers of a run on several hosts agree on between calls, and what they do on a loss.

Reductions inside the step keep the workers' weights alike. What the host decides has to be the same
everywhere too: how many steps a call runs, and when to stop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from fastcifar.cluster import Cluster
from fastcifar.errors import WorkerError


class Workers:
    """The workers of one run; of a run in one process, that one.

    Args:
        strategy: that the run trains under.
        cluster: the workers, or None where there is one.
    """

    def __init__(self, strategy: Any, cluster: Cluster | None):
        self._strategy = strategy
        self._cluster = cluster
        self._total = tf.function(self._distribute, autograph=False)

    def mean(self, values: Sequence[float]) -> list[float]:
        """Return the mean of each value over the workers; all of them must call it."""
        if self._cluster is None:
            return list(values)
        # Every replica of a host brings the host's values, and hosts have as many replicas.
        return [float(value) for value in self._total(tf.constant(values, tf.float64)).numpy()]

    def any(self, value: bool) -> bool:
        """Whether it is true on one worker or more; all of them must call it."""
        return self.mean([float(value)])[0] > 0

    def check_same(self, what: str, value: float, rule: str) -> None:
        """Refuse a number that differs between workers.

        Raises:
            WorkerError: `what` must be the same on all workers, and `rule`, the mend.
        """
        # A mean of equal numbers may be off by its rounding.
        if self._cluster is not None and not math.isclose(self.mean([value])[0], value):
            raise WorkerError(
                f"{what} must be the same on all workers: {rule}. "
                f"Received: {value:g} on {self._cluster.name(self._cluster.index)}"
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the failure of a collective operation inside into one line that names the lost.

        Raises:
            WorkerError: if another worker has died or does not answer.
        """
        try:
            yield
        except tf.errors.OpError as error:
            lost = None if self._cluster is None else lost_worker(error.message, self._cluster)
            if lost is None:
                raise
            raise WorkerError(
                f"{lost} has died or does not answer. The last checkpoint is intact: start all "
                "workers again with --resume"
            ) from error

    def _distribute(self, values: tf.Tensor) -> tf.Tensor:
        found = self._strategy.run(self._on_replica, args=(values,))
        return self._strategy.experimental_local_results(found)[0]

    def _on_replica(self, values: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # An argument has no device of its own, which the reduction asks for; a result has.
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(values))


# How TensorFlow's collectives and its coordination service name a worker, and themselves.
_TASK = re.compile(r"/job:worker/(?:replica:0/)?task:(\d+)")
_TALK = ("Collective ops is aborted", "CoordinationService", "RecvBuf")


def lost_worker(message: str, cluster: Cluster) -> str | None:
    """Name the worker that a failed operation was waiting for.

    Args:
        message: of TensorFlow's error.
        cluster: the workers.

    Returns:
        the worker, `another worker` where the message does not tell which, or None where the
        failure has nothing to do with other workers.
    """
    if not any(part in message for part in _TALK):
        return None
    others = {int(found) for found in _TASK.findall(message)} - {cluster.index}
    if others:
        return cluster.name(min(others))
    # The service that listens for everyone's heartbeat lives on the first worker.
    if "CoordinationService/Heartbeat" in message and cluster.index != 0:
        return cluster.name(0)
    return "another worker"
