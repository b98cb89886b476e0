"""A record of `fastcifar.bench.step_overheads`: what a step costs beside its arithmetic."""

from __future__ import annotations

from matplotlib.figure import Figure

from fastcifar.bench.drawing import parts
from fastcifar.bench.record import Record
from fastcifar.reporting import style


def figures(record: Record) -> dict[str, Figure]:
    """Bars of milliseconds: a step's reductions, and what the host adds to a call."""
    batch = record.config["global_batch_size"]
    took: dict[str, float] = {}
    step_ms = None
    for row in record.rows:
        if "call_ms" in row.figures:
            took[f"{row.name}, of no steps"] = row.figures["call_ms"]
            step_ms = row.figures["step_ms"]
        elif "us_per_image" in row.figures:
            took[row.name] = row.figures["us_per_image"] * batch / 1e3
    if not took:
        return {}
    figure = style.new_figure(
        "What a step costs beside its arithmetic", height=2.0 + 0.6 * len(took)
    )
    beside = f" (a whole step: {step_ms:,.0f} ms)" if step_ms else ""
    axes = parts.bars(figure, list(took), f"Milliseconds{beside}")
    for place, ms in enumerate(took.values()):
        axes.barh(place, ms, color=style.BLUE, height=0.6)
        parts.note(axes, ms, place, f"{ms:,.2f} ms")
    axes.set_xlim(0, 1.2 * max(took.values()))
    parts.machine(figure, record)
    return {"": figure}
