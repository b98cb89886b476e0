"""Who the workers are: TF_CONFIG, Slurm's variables, and what neither makes clear."""

from __future__ import annotations

import json

import pytest

from fastcifar.cluster import Cluster, note_if_alone, read_cluster
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
        ({"TF_CONFIG": '"text"'}, "TF_CONFIG must be like"),
        (tf_config({"worker": "a:1,b:2"}), "a list of addresses for worker. Received: 'a:1,b:2'"),
        (tf_config({"worker": {"0": "a:1"}}), "a list of addresses for worker"),
        (tf_config({"worker": ["a:1", "b"]}), "address of worker 1 must be host:port.*'b'"),
        (tf_config({"worker": ["http://a:1"]}), "address of worker 0 must be.*'http://a:1'"),
        (tf_config({"worker": ["a:1/x"]}), "address of worker 0 must be host:port"),
        (tf_config({"worker": ["a:0"]}), "address of worker 0 must be host:port"),
        (tf_config({"worker": ["a:70000"]}), "address of worker 0 must be host:port"),
        (tf_config({"worker": [":1"]}), "address of worker 0 must be host:port"),
        (tf_config({"worker": [1]}), "address of worker 0 must be host:port.*1$"),
        (tf_config({"worker": ["a:1", "a:1"]}), "an address of its own. Received: a:1 more than"),
        (tf_config({"chief": ["a:1"], "worker": ["a:1"]}), "an address of its own"),
        (tf_config(TWO, index="0"), "one of its cluster's 2 workers.*index '0'"),
        (tf_config(TWO, index=True), "one of its cluster's 2 workers.*index True"),
        (tf_config(TWO, "evaluator"), "one of its cluster's 2 workers.*'evaluator'"),
        (tf_config(TWO, ["worker"]), "one of its cluster's 2 workers"),
        (tf_config({}), "one of its cluster's 0 workers"),
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


@pytest.mark.parametrize(
    ("environ", "note"),
    [
        (
            tf_config(TWO),
            "TF_CONFIG names 2 workers, and strategy is auto: this process computes alone; "
            "--strategy multi_worker trains on all of them",
        ),
        (tf_config({"worker": ["a:1"]}), None),
        ({"TF_CONFIG": "{"}, None),
        ({}, None),
        ({"SLURM_PROCID": "0"}, None),  # in a batch script, which is no job step
    ],
)
def test_several_workers_without_their_strategy_are_worth_a_note(environ, note):
    assert note_if_alone(environ, "auto") == note


def test_slurms_workers_without_their_strategy_are_worth_a_note():
    note = note_if_alone(slurm(), "none")
    assert note.startswith("Slurm names 5 workers, and strategy is none")


def test_an_address_may_be_ipv6():
    assert read_cluster(tf_config({"worker": ["[::1]:1"]})).addresses == ("[::1]:1",)


def test_messages_name_a_worker_by_number_and_address():
    assert read_cluster(tf_config(TWO)).name(1) == "worker 1 (b:2)"
