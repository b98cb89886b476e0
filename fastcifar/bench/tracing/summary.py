"""Sums over a trace: how busy the device was, and with what. No TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fastcifar.bench.tracing import kernels
from fastcifar.bench.tracing.xplane import Event, Line, Plane

TOP = 15
# Shorter pauses are those between two kernels that wait for each other.
GAP_NS = 5_000.0
# Lines that a viewer derives from the others; counting them would count everything twice.
_DERIVED = re.compile(
    r"^(steps|xla (modules|ops|traceme)|tensorflow (ops|name scope)|framework|source)",
    re.IGNORECASE,
)
_TAKES_BATCH = "IteratorGetNextOp::DoCompute"
# An operation's event on the host: the node's name and its type.
_OPERATION = re.compile(r"^[^:\s]+:(?P<type>\w+)$")


@dataclass(frozen=True)
class Sum:
    """Events taken together.

    Attributes:
        count: of them.
        ns: that they took.
    """

    count: int
    ns: float


@dataclass(frozen=True)
class Summary:
    """What a trace says of one device.

    Attributes:
        device: the name of its plane.
        on_gpu: whether it is one.
        window_ns: from the begin of the first event to the end of the last.
        busy_ns: of it, with one event or more.
        gaps: pauses of `GAP_NS` or more.
        longest_gap_ns: of them; 0 without any.
        kinds: of a GPU: what its events are, in the order of `kernels.KINDS`.
        top: what took most: by the name of the kernel, or on a CPU by the type of the operation.
    """

    device: str
    on_gpu: bool
    window_ns: float
    busy_ns: float
    gaps: Sum
    longest_gap_ns: float
    kinds: dict[str, Sum]
    top: dict[str, Sum]

    @property
    def launches(self) -> int:
        """Kernels that were started."""
        return sum(found.count for kind, found in self.kinds.items() if kind not in kernels.COPIES)


def summarise(planes: Sequence[Plane]) -> Summary | None:
    """Sum up the first GPU of a trace, or the host where there is none; None for an empty trace."""
    gpus = [plane for plane in planes if "/device:GPU" in plane.name and _device_events(plane)]
    if gpus:
        plane = min(gpus, key=lambda plane: plane.name)
        events = _device_events(plane)
        by_kind = _sums(events, _kind)
        kinds = {kind: by_kind[kind] for kind in kernels.KINDS if kind in by_kind}
        top = _sums(events, lambda event: event.name)
        return _summary(plane.name, True, events, kinds, top)
    hosts = [plane for plane in planes if plane.name.startswith("/host:CPU")]
    own = [event for plane in hosts for line in plane.lines for event in _own_times(line)]
    operations = [event for event in own if _OPERATION.match(event.name)]
    if not operations:
        return None
    whole = [
        event
        for plane in hosts
        for line in plane.lines
        for event in line.events
        if _OPERATION.match(event.name)
    ]
    return _summary(hosts[0].name, False, whole, {}, _sums(operations, _type))


def batches_taken(planes: Sequence[Plane]) -> int:
    """How often the host took a batch from the pipeline for a device: once a step."""
    taken = [
        event
        for plane in planes
        for line in plane.lines
        for event in line.events
        if event.name == _TAKES_BATCH
    ]
    gpus = sum("/device:GPU" in plane.name and bool(_device_events(plane)) for plane in planes)
    return len(taken) // max(1, gpus)


def _device_events(plane: Plane) -> list[Event]:
    lines = [line for line in plane.lines if not _DERIVED.match(line.name)]
    return [event for line in lines for event in line.events if event.duration_ns > 0]


def _kind(event: Event) -> str:
    operation = " ".join(str(event.facts.get(key, "")) for key in ("tf_op", "hlo_op", "name"))
    return kernels.kind(event.name, operation)


def _type(event: Event) -> str:
    found = _OPERATION.match(event.name)
    return found["type"] if found else event.name


def _summary(
    device: str, on_gpu: bool, events: Sequence[Event], kinds: dict[str, Sum], top: dict[str, Sum]
) -> Summary:
    spans = merged(events)
    pauses = [after[0] - before[1] for before, after in pairwise(spans)]
    gaps = [pause for pause in pauses if pause >= GAP_NS]
    most = sorted(top.items(), key=lambda item: -item[1].ns)[:TOP]
    return Summary(
        device=device,
        on_gpu=on_gpu,
        window_ns=spans[-1][1] - spans[0][0],
        busy_ns=sum(end - begin for begin, end in spans),
        gaps=Sum(len(gaps), sum(gaps)),
        longest_gap_ns=max(gaps, default=0.0),
        kinds=kinds,
        top=dict(most),
    )


def merged(events: Iterable[Event]) -> list[tuple[float, float]]:
    """The times in which one event or more took place, in order: [(begin, end), ...]."""
    spans: list[tuple[float, float]] = []
    for begin, end in sorted((event.begin_ns, event.end_ns) for event in events):
        if spans and begin <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((begin, end))
    return spans


def _sums(events: Iterable[Event], key: Callable[[Event], str]) -> dict[str, Sum]:
    found: dict[str, Sum] = {}
    for event in events:
        before = found.get(key(event), Sum(0, 0.0))
        found[key(event)] = Sum(before.count + 1, before.ns + event.duration_ns)
    return found


def _own_times(line: Line) -> list[Event]:
    """The events of a thread without the time of those inside them."""
    # Whole ones before what they hold.
    order = sorted(line.events, key=lambda event: (event.begin_ns, -event.end_ns))
    own = [event.duration_ns for event in order]
    stack: list[int] = []
    for index, event in enumerate(order):
        while stack and order[stack[-1]].end_ns <= event.begin_ns:
            stack.pop()
        if stack:
            own[stack[-1]] -= event.duration_ns
        stack.append(index)
    return [
        Event(event.name, event.begin_ns, event.begin_ns + max(0.0, ns), event.facts)
        for event, ns in zip(order, own, strict=True)
    ]
