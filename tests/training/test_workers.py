"""What workers tell each other, and how the loss of one is named."""

import pytest
import tensorflow as tf

from fastcifar.cluster import Cluster
from fastcifar.errors import WorkerError
from fastcifar.training.workers import Workers, lost_worker

CLUSTER = Cluster(("a:1", "b:2", "c:3"), 0, "TF_CONFIG")
SECOND = Cluster(("a:1", "b:2", "c:3"), 1, "TF_CONFIG")
# As TensorFlow 2.21 words them, shortened.
RESET = (
    "Collective ops is aborted by: recvmsg:Connection reset by peer\nAdditional GRPC error "
    "information from remote target /job:worker/replica:0/task:1 while calling "
    "/tensorflow.WorkerService/RecvBuf"
)
SILENT = (
    "Collective ops is aborted by: Error reported from /job:worker/task:2: The following tasks are "
    "unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:2"
)
CHIEF = (
    "Collective ops is aborted by: Deadline Exceeded\n"
    "RPC: /tensorflow.CoordinationService/Heartbeat"
)


@pytest.mark.parametrize(
    ("message", "cluster", "named"),
    [
        (RESET, CLUSTER, "worker 1 (b:2)"),
        (SILENT, CLUSTER, "worker 2 (c:3)"),
        (CHIEF, SECOND, "worker 0 (a:1)"),
        # A worker is not told of itself.
        (RESET, SECOND, "another worker"),
        ("Collective ops is aborted by: nobody knows", CLUSTER, "another worker"),
        ("OOM when allocating tensor with shape [512]", CLUSTER, None),
    ],
)
def test_the_lost_worker_is_named(message, cluster, named):
    assert lost_worker(message, cluster) == named


def test_its_loss_is_one_line():
    workers = Workers(tf.distribute.get_strategy(), CLUSTER)
    with (
        pytest.raises(WorkerError, match=r"^worker 1 \(b:2\) has died.*--resume$"),
        workers.watched(),
    ):
        raise tf.errors.UnavailableError(None, None, RESET)


def test_other_failures_stay_what_they_are():
    workers = Workers(tf.distribute.get_strategy(), CLUSTER)
    with pytest.raises(tf.errors.ResourceExhaustedError), workers.watched():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    alone = Workers(tf.distribute.get_strategy(), None)
    with pytest.raises(tf.errors.UnavailableError), alone.watched():
        raise tf.errors.UnavailableError(None, None, RESET)


def test_one_process_agrees_with_itself():
    alone = Workers(tf.distribute.get_strategy(), None)
    assert alone.mean([1.5, 2]) == [1.5, 2]
    assert alone.any(True)
    assert not alone.any(False)
    alone.check_same("the step", 3, "")


def test_a_difference_is_refused(monkeypatch):
    workers = Workers(tf.distribute.get_strategy(), CLUSTER)
    monkeypatch.setattr(workers, "mean", lambda values: [5.0])
    workers.check_same("the step", 5, "share the folder")
    with pytest.raises(WorkerError, match=r"share the folder. Received: 7 on worker 0 \(a:1\)"):
        workers.check_same("the step", 7, "share the folder")
