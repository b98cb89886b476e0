"""The workers that train together, read from TF_CONFIG or from Slurm's variables."""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
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


def note_if_alone(environ: Mapping[str, str], strategy: str) -> str | None:
    """A note for a process that computes alone where the environment names several workers.

    Args:
        environ: the process's environment variables.
        strategy: the one asked for.
    """
    try:
        cluster = read_cluster(environ)
    except DeviceError:  # whatever it holds is meant for something else
        return None
    count = len(cluster.addresses)
    if count == 1:
        return None
    return (
        f"{cluster.found_in} names {count} workers, and strategy is {strategy}: this process "
        "computes alone; --strategy multi_worker trains on all of them"
    )


_LIKE = (
    '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'
)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@]+):([0-9]{1,5})", re.ASCII)


def _from_tf_config(text: str) -> Cluster:
    try:
        value = json.loads(text)
        jobs, task = dict(value["cluster"]), value["task"]
        kind, index = task["type"], task["index"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DeviceError(f"TF_CONFIG must be like {_LIKE}. Received: {_short(text)}") from error
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise DeviceError(
            f"TF_CONFIG's cluster may hold the jobs chief and worker. Received: {others[0]}"
        )
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise DeviceError(
                f"TF_CONFIG must be like {_LIKE}, with a list of addresses for {job}. "
                f"Received: {_short(addresses)}"
            )
        for number, address in enumerate(addresses):
            found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if found is None or not 0 < int(found[2]) < 65536:
                raise DeviceError(
                    f"TF_CONFIG's address of {job} {number} must be host:port, such as "
                    f"10.0.0.1:8888. Received: {_short(address)}"
                )
    # The chief, where it has a job of its own, comes before the workers.
    places = [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]
    workers = [jobs[job][i] for job, i in places]
    repeated = [address for address, count in Counter(workers).items() if count > 1]
    if repeated:
        raise DeviceError(
            "TF_CONFIG must give every worker an address of its own. "
            f"Received: {repeated[0]} more than once"
        )
    if type(index) is not int or (kind, index) not in places:  # to Python, True is 1
        raise DeviceError(
            f"TF_CONFIG's task must be one of its cluster's {len(places)} workers. "
            f"Received: type {_short(kind)}, index {_short(index)}"
        )
    return Cluster(tuple(workers), places.index((kind, index)), "TF_CONFIG")


def _short(value: Any) -> str:
    return reprlib.repr(value)


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
