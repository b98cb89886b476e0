"""`fastcifar bench startup`: where the time goes until the first step is done.

    plain       XLA off
    xla_cold    XLA on, into an empty compile cache
    xla_warm    XLA on, from the cache that `xla_cold` of the same round has filled

and of each: import (from the making of the process), build (devices, data, network, optimizer,
input), trace, compile (what the first call takes and a later one does not), a step. Each row has a
new process in each round, and the rows take turns.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar import config_file
from fastcifar.bench.measure import MIN_ROUNDS, describe
from fastcifar.bench.processes.row_process import Processes, Start
from fastcifar.bench.record import EACH, OK, Row
from fastcifar.bench.statistics import paired_ratio, spread
from fastcifar.config import RunConfig
from fastcifar.errors import UserError

PLAIN, COLD, WARM = "plain", "xla_cold", "xla_warm"
ROWS = (PLAIN, COLD, WARM)
# In the order in which they come.
PARTS = ("import_s", "build_s", "trace_s", "compile_s", "step_s")
_FIGURES = (*PARTS, "startup_s")
# A program from the cache is the one that was put there; only a GPU's sums may differ in order.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class StartupPlan:
    """How long to measure.

    Attributes:
        seconds: for all rounds together.
        rounds: at most this many.
    """

    seconds: float = 240.0
    rounds: int | None = None


def measure_startup(
    config: RunConfig, plan: StartupPlan, put: Callable[..., None], start: Start
) -> None:
    """Measure all rows, interleaved; `put(*rows)` receives all rows after every process.

    Args:
        config: what starts.
        plan: how long.
        put: takes the rows, and the `environment` that they were measured in.
        start: makes the process of a row.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ROWS}
    faults: dict[str, dict[str, str]] = {}
    began = time.perf_counter()
    done = 0
    while plan.rounds is None or done < plan.rounds:
        with tempfile.TemporaryDirectory(prefix="fastcifar-xla-") as cache:
            for name in ROWS:
                if name not in faults:
                    fault = _once(name, config, cache, found, start)
                    if fault:
                        faults[name] = fault
                starts = found[PLAIN]
                put(
                    *(_row(name, found, faults) for name in ROWS),
                    environment=starts[0]["environment"] if starts else None,
                )
        done += 1
        elapsed = time.perf_counter() - began
        if len(faults) == len(ROWS):
            break
        if done >= MIN_ROUNDS and elapsed + elapsed / done > plan.seconds:
            break


def _once(
    name: str,
    config: RunConfig,
    cache: str,
    found: dict[str, list[dict[str, Any]]],
    start: Start,
) -> dict[str, str]:
    """Start once; add its figures to `found`, or return what is wrong."""
    own = dataclasses.replace(
        config.runtime,
        xla="off" if name == PLAIN else "on",
        compile_cache=None if name == PLAIN else cache,
    )
    config = dataclasses.replace(config, runtime=own)
    with Processes(start) as processes:
        try:
            process = processes.start(name)
            built = process.ask("prepare", config=config_file.to_dict(config))
            figures = {**built, **process.ask("first_step")}
        except UserError:
            raise  # the same for all rows
        except Exception as error:
            return {"error": describe(error)}
    if figures["first_loss"] is None:
        return {"check": "failed: the loss of the first step must be finite"}
    if name == COLD and not any(Path(cache).iterdir()):
        return {"check": "failed: nothing was kept in the compile cache"}
    if name == WARM and found[COLD]:
        expected, received = found[COLD][-1]["first_loss"], figures["first_loss"]
        if abs(received - expected) > _TOLERANCE * abs(expected):
            return {
                "check": f"failed: the loss of the first step is {received:.5f}, and "
                f"{expected:.5f} without the cache"
            }
    found[name].append(figures)
    return {}


def _row(name: str, found: dict[str, list[dict[str, Any]]], faults: dict[str, Any]) -> Row:
    starts = found[name]
    if name in faults or not starts:
        return Row(name, **faults.get(name, {}))
    each = {key: [start[key] for start in starts] for key in _FIGURES}
    figures: dict[str, Any] = {key: spread(values).median for key, values in each.items()}
    figures |= {"starts": len(starts), "precision": starts[0]["precision"], EACH: each}
    cold = [start["compile_s"] for start in found[COLD]]
    if name == WARM and len(cold) >= len(starts) >= MIN_ROUNDS and COLD not in faults:
        warm = [start["compile_s"] for start in starts]
        if min(*cold, *warm) > 0:
            ratio = paired_ratio(warm, cold[: len(warm)])
            figures["compile_to_cold"] = dataclasses.asdict(ratio)
    return Row(name, check=OK, figures=figures)
