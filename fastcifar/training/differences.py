"""In what a resumed run differs from how it was started, where that may change the bits it ends in.

A run is resumed on what there is: other versions, devices or a precision of choice. Each difference
is a warning, in the terminal and in summary.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastcifar.config import RunConfig
from fastcifar.runtime import Runtime

# Of `fastcifar.environment.fingerprint`: what decides about bits.
_OF_THE_MACHINE = {
    "versions": "version of",
    "commit": "commit of fastcifar",
    "cpu": "CPU",
    "cpu_flags": "instruction set",
    "cores": "number of cores",
    "gpus": "set of GPUs",
    "driver": "GPU driver",
    "threads": "setting of threads",
    "variables": "environment variable",
}
# Where XLA keeps what it has compiled does not decide what it compiles.
_CACHE_FLAG = "--tf_xla_persistent_cache_directory="


def computing(config: RunConfig, chosen: Runtime) -> dict[str, Any]:
    """Return how a run computes: its settings as they were settled, for environment.json.

    Beside these, a resumed run may only change settings that leave every bit as it is.
    """
    on_gpu = bool(chosen.gpus)
    return {
        "precision": chosen.precision,
        "xla": "on" if chosen.xla else "off",
        "number of replicas": chosen.replicas,
        "number of workers": 1 if chosen.cluster is None else len(chosen.cluster.addresses),
        "reduce-dtype": config.runtime.reduce_dtype if chosen.replicas > 1 else "float32",
        "reduction": config.runtime.reduction if chosen.replicas > 1 else "packed",
        "tf32": on_gpu and config.runtime.tf32,
        "deterministic": not on_gpu or config.runtime.deterministic,
        # Gathered within the compiled step, which is then another program.
        "place of the images": "device" if config.data.cache == "device" else "host",
    }


def of_resumed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in what two environments differ, a line for each difference.

    Args:
        before, now: contents of environment.json, with `computing`; what an older version has not
            recorded is not compared.
    """
    names = {**_OF_THE_MACHINE, "computing": ""}
    return [
        f"resumed with another {' '.join(filter(None, (what, part)))}: {_shown(new)} instead of "
        f"{_shown(old)}"
        for key, what in names.items()
        if key in before
        for part, old, new in _leaves(before[key], now[key])
        if old != new
    ]


def _leaves(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield "", old, new
        return
    for name in dict.fromkeys([*old, *new]):
        yield name, _without_cache(old.get(name)), _without_cache(new.get(name))


def _without_cache(value: Any) -> Any:
    if not isinstance(value, str) or _CACHE_FLAG not in value:
        return value
    return " ".join(p for p in value.split() if not p.startswith(_CACHE_FLAG)) or None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
