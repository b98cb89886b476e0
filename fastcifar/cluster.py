"""The workers that train together, read from TF_CONFIG or from Slurm's variables."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcifar.errors import DeviceError

# The first of the ports that workers listen on under Slurm, which names hosts but no ports.
SLURM_PORT = 8888


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, one process each.

    Attributes:
        addresses: host:port of every worker; the first one is the chief.
        index: which of them this process is.
        found_in: `TF_CONFIG` or `Slurm`.
    """

    addresses: tuple[str, ...]
    index: int
    found_in: str

    def name(self, index: int) -> str:
        """A worker as messages call it: `worker 1 (host:port)`."""
        return f"worker {index} ({self.addresses[index]})"


def read_cluster(environ: Mapping[str, str]) -> Cluster:
    """Read who the workers are; TF_CONFIG wins over Slurm.

    Args:
        environ: the process's environment variables.

    Raises:
        DeviceError: if neither is there, or what is there gives this process no place.
    """
    if environ.get("TF_CONFIG"):
        return _from_tf_config(environ["TF_CONFIG"])
    if "SLURM_PROCID" in environ:
        return _from_slurm(environ)
    raise DeviceError(
        "strategy multi_worker must know its workers: set TF_CONFIG, start them by srun, or on one "
        "host by scripts/launch_workers. Received: neither TF_CONFIG nor SLURM_PROCID"
    )


def _from_tf_config(text: str) -> Cluster:
    received = f"Received: {reprlib.repr(text)}"
    try:
        value = json.loads(text)
        jobs, task = value["cluster"], value["task"]
        kind, index = task["type"], task["index"]
        # The chief, where it has a job of its own, comes before the workers.
        places = [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]
        addresses = tuple(str(jobs[job][i]) for job, i in places)
        others = set(jobs) - {"chief", "worker"}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeviceError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host:port", "host:port"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. {received}'
        ) from error
    if others:
        raise DeviceError(
            f"TF_CONFIG's cluster may hold the jobs chief and worker. Received: {min(others)}"
        )
    if (kind, index) not in places:
        raise DeviceError(
            f"TF_CONFIG's task must be one of its cluster's {len(places)} workers. "
            f"Received: type {kind!r}, index {index!r}"
        )
    return Cluster(addresses, places.index((kind, index)), "TF_CONFIG")


def _from_slurm(environ: Mapping[str, str]) -> Cluster:
    # TensorFlow's own resolver fails on hosts without GPUs; its parsers do not.
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

    def variable(name: str, read: Any) -> Any:
        text = environ.get(name)
        try:
            if text is None:
                raise ValueError("nothing")
            return read(text)
        except ValueError as error:
            raise DeviceError(
                f"{name} must be what srun sets for a job step. Received: {text!r}"
            ) from error

    rank = variable("SLURM_PROCID", int)
    hosts = variable("SLURM_STEP_NODELIST", slurm.expand_hostlist)
    tasks = variable("SLURM_STEP_TASKS_PER_NODE", slurm.expand_tasks_per_node)
    node = variable("SLURM_NODEID", int)
    workers = [
        (i, f"{host}:{SLURM_PORT + task}")
        for i, (host, count) in enumerate(zip(hosts, tasks, strict=False))
        for task in range(count)
    ]
    if not 0 <= rank < len(workers) or workers[rank][0] != node:
        raise DeviceError(
            "tasks must fill one node after the other: srun --distribution=block. "
            f"Received: task {rank} of {len(workers)} on node {node} of {len(hosts)}"
        )
    return Cluster(tuple(address for _, address in workers), rank, "Slurm")
