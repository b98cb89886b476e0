"""What augment, resize and normalise take of a training step.

    transform/POLICY   the step that trains with a checksum in the place of the network
    step/POLICY        the whole step

Both are built by the functions that build them for training, on a batch that lies on the device,
and take turns. The share is the time of the one over that of the other. It is an upper bound: what
a step costs without its network (call, loop, metrics, the checksum) is counted as augmentation.

The other way is the difference of two whole steps, with a policy and with `none`. It has no such
bias, and leaves the resize out; but a step's own spread from round to round is not small against a
few per cent, and the record has both (`ratios` to `step/none`) so that the intervals can be seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from fastcifar.bench import measure, prefixes, stage_names
from fastcifar.bench.augmentation.names import STEP, TRANSFORM, row_name
from fastcifar.bench.measure import Contender, Lap
from fastcifar.bench.subject import Driver, Subject, finite
from fastcifar.config import RunConfig
from fastcifar.training.preparation import Prepared

NONE = "none"
POLICIES = (NONE, "standard", "trivial")
# A transform takes milliseconds: its pieces need not last as long as those of a step.
_SHORT = 0.25


@dataclass(frozen=True)
class SharePlan:
    """What to measure.

    Attributes:
        policies: by name.
        seconds: for all rounds together, start-up apart.
        rounds: at most this many.
    """

    policies: tuple[str, ...] = POLICIES
    seconds: float = 60.0
    rounds: int | None = None


def measure_share(
    config: RunConfig, prepared: Prepared, plan: SharePlan, put: Callable[..., None]
) -> None:
    """Measure policies, interleaved; `put(*rows)` receives all rows after every round.

    Args:
        config: its first phase is measured, with each policy in the place of its own.
        prepared: the parts of `config`.
        plan: which policies, and how long.
        put: takes the rows.
    """
    contenders = []
    for policy in plan.policies:
        phase = dataclasses.replace(config.phases[0], augment=policy)
        subject = Subject.of(dataclasses.replace(config, phases=(phase,)), prepared)
        contenders += [
            _contender(row_name(TRANSFORM, policy), subject, stage_names.AUGMENT, _SHORT),
            _contender(row_name(STEP, policy), subject, stage_names.STEP, 1.0),
        ]

    def report(laps: dict[str, Lap]) -> None:
        rows = []
        for name in laps:
            section, _, policy = name.partition("/")
            ratios_to = []
            if section == STEP:
                # The rate of a step over that of its transform: the share of the step's time.
                ratios_to = [row_name(TRANSFORM, policy)]
                ratios_to += [row_name(STEP, NONE)] if policy != NONE else []
            precision = prepared.runtime.precision
            rows.append(measure.row(laps, name, ratios_to=ratios_to, precision=precision))
        put(*rows)

    measure.interleave(contenders, seconds=plan.seconds, rounds=plan.rounds, after_round=report)


def _contender(name: str, subject: Subject, prefix: str, piece: float) -> Contender:
    driver: Driver

    def check() -> str:
        nonlocal driver
        driver = prefixes.build(subject, prefix)
        driver.calibrate(piece)
        return finite(driver)

    return Contender(name, lambda: driver.run(), check=check)
