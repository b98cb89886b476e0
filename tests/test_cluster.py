"""Who the workers are: TF_CONFIG, Slurm's variables, and what neither makes clear."""

from __future__ import annotations

import json

import pytest

from fastcifar.cluster import Cluster, read_cluster
from fastcifar.errors import DeviceError

TWO = {"worker": ["a:1", "b:2"]}


def tf_config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def slurm(**changes):
    found = {
        "SLURM_PROCID": "3",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "gpu[07-08],login",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def test_tf_config_names_the_workers():
    assert read_cluster(tf_config(TWO, index=1)) == Cluster(("a:1", "b:2"), 1, "TF_CONFIG")


def test_a_chief_with_a_job_of_its_own_comes_first():
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    assert read_cluster(tf_config(jobs, "chief")).index == 0
    found = read_cluster(tf_config(jobs, "worker", 1))
    assert found == Cluster(("c:3", "a:1", "b:2"), 2, "TF_CONFIG")


def test_slurm_lists_its_tasks_node_by_node():
    addresses = ("gpu07:8888", "gpu07:8889", "gpu08:8888", "gpu08:8889", "login:8888")
    assert read_cluster(slurm()) == Cluster(addresses, 3, "Slurm")


def test_tf_config_wins_over_slurm():
    assert read_cluster(slurm() | tf_config(TWO)).found_in == "TF_CONFIG"
    assert read_cluster(slurm() | {"TF_CONFIG": ""}).found_in == "Slurm"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "multi_worker must know its workers.*scripts/launch_workers"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG must be like"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG must be like"),
        ({"TF_CONFIG": '{"cluster": {"worker": 3}, "task": {}}'}, "TF_CONFIG must be like"),
        (tf_config({"worker": 3}), "TF_CONFIG must be like"),
        (tf_config(TWO, index=2), "one of its cluster's 2 workers.*index 2"),
        (tf_config(TWO, index=-1), "one of its cluster's 2 workers.*index -1"),
        (tf_config(TWO, "chief"), "one of its cluster's 2 workers.*'chief'"),
        (tf_config(TWO | {"ps": ["d:4"]}), "the jobs chief and worker. Received: ps"),
        (slurm(SLURM_PROCID="x"), "SLURM_PROCID must be.*'x'"),
        (slurm(SLURM_NODEID=None), "SLURM_NODEID must be.*None"),
        (slurm(SLURM_STEP_NODELIST="a[1"), "SLURM_STEP_NODELIST must be"),
        (slurm(SLURM_STEP_TASKS_PER_NODE="two"), "SLURM_STEP_TASKS_PER_NODE must be"),
        # Tasks dealt out to nodes in turn: task 3 is not where a block would have it.
        (slurm(SLURM_NODEID="0"), "srun --distribution=block"),
        (slurm(SLURM_PROCID="5"), "srun --distribution=block"),
    ],
)
def test_what_gives_no_place_is_refused_in_one_line(environ, message):
    with pytest.raises(DeviceError, match=message) as refused:
        read_cluster(environ)
    assert "\n" not in str(refused.value)


def test_messages_name_a_worker_by_number_and_address():
    assert read_cluster(tf_config(TWO)).name(1) == "worker 1 (b:2)"
