"""Tables of the documentation, generated from the records in benchmarks/results.

A page says where a table belongs:

    <!-- table: RECORD -->             the record benchmarks/results/RECORD.json
    <!-- table: RECORD/SECTION -->     its rows named SECTION/…, or its row of that name; spaces are
                                       written _
    <!-- table: gpu-targets -->        what was aimed at on a GPU (`fastcifar.bench.targets`)
    <!-- end -->

and what stands between the two lines is written by `scripts/tables`. No TensorFlow here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from fastcifar.bench import record as records
from fastcifar.bench import tables, targets
from fastcifar.bench.augmentation import names
from fastcifar.bench.record import Estimate, Record, Row
from fastcifar.rundir import write_whole

RESULTS = Path("benchmarks") / "results"
NOT_MEASURED = "Not measured."
TARGETS, _ON_GPU = "gpu-targets", "gpu-"
_MARKED = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def pages(root: Path) -> list[Path]:
    """The pages that may hold tables."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def marked(text: str) -> list[str]:
    """The names of the tables of a page, in order."""
    return [match[1] for match in _MARKED.finditer(text)]


def fill(text: str, results: Path) -> str:
    """Return the page with every table written anew from its record in the folder `results`.

    Raises:
        ConfigError: if a record is damaged.
    """

    def made(name: str) -> str:
        if name == TARGETS:
            return targets_table(results)
        stem, _, section = name.partition("/")
        path = results / f"{stem}.json"
        if not path.exists():
            return NOT_MEASURED
        record = records.read(path)
        # What the suite made on a CPU, to see that it works, says nothing of a GPU.
        elsewhere = stem.startswith(_ON_GPU) and not record.environment.get("gpus")
        return NOT_MEASURED if elsewhere else table_of(record, section)

    def written(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{made(match[1])}\n<!-- end -->"

    return _MARKED.sub(written, text)


def table_of(record: Record, section: str = "") -> str:
    """Return a record's table as Markdown, with what it was measured on.

    Args:
        record: of any kind.
        section: the rows of that section only, or the row of that name; all if empty.
    """
    if section:
        record = _only(record, section)
    if not record.rows:
        return NOT_MEASURED
    layout = _LAYOUTS.get(section, _any_rows)
    return f"{layout(record)}\n\n{provenance(record)}"


def targets_table(results: Path) -> str:
    """Return what was aimed at on a GPU beside what the records in a folder say, as Markdown.

    Raises:
        ConfigError: if a record is damaged.
    """
    found = targets.read(results)
    header = ["what", "target", "measured", "", "record"]
    made = markdown(header, targets.lines(found), figures=False)
    return "\n\n".join([made, *filter(None, [targets.remark(found)])])


def tables_of(record: Record) -> str:
    """Return the tables of all sections of an augmentation record, as Markdown."""
    found = dict.fromkeys(row.name.partition("/")[0] for row in record.rows)
    shown = [section for section in found if section in _LAYOUTS]
    return "\n\n".join([*(_LAYOUTS[s](_only(record, s)) for s in shown), provenance(record)])


def provenance(record: Record) -> str:
    """What a record was measured on, and the command that repeats it."""
    environment = record.environment
    versions = environment.get("versions", {})
    packages = ", ".join(
        f"{name} {versions[name]}"
        for name in ("tensorflow", "keras", "keras-cv", "numpy")
        if versions.get(name)
    )
    gpus = environment.get("gpus") or []
    driver = f" (driver {environment['driver']})" if environment.get("driver") else ""
    device = f"{len(gpus)} × {gpus[0]}{driver}, " if gpus else ""
    return (
        f"{device}{environment.get('cpu')}, {environment.get('cores')} cores; {packages}; "
        f"fastcifar {versions.get('fastcifar')}, commit {environment.get('commit')}. Repeat: "
        f"`{record.command}`"
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], *, figures: bool = True) -> str:
    """Lay out a table whose first column is text and whose others are figures, or text too."""
    others = "---:" if figures else "---"
    lines = [header, ["---", *[others] * (len(header) - 1)], *rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _only(record: Record, section: str) -> Record:
    named = section.replace("_", " ")
    kept = tuple(
        row
        for row in record.rows
        if row.name.startswith(f"{section}/") or row.name.replace("_", " ") == named
    )
    return Record(record.kind, record.command, record.environment, record.config, kept)


def _any_rows(record: Record) -> str:
    """The table that the command shows, and what the record says in words."""
    columns = tables.table(record).columns
    header = [str(column.header) for column in columns]
    rows = zip(*([str(cell) for cell in column.cells] for column in columns), strict=True)
    return "\n\n".join([markdown(header, rows), *tables.words(record)])


def _libraries(record: Record) -> str:
    """A line for each operation or policy; what differs or fails is noted below."""
    notes = _Notes()
    section = record.rows[0].name.partition("/")[0]
    lines = []
    compared = False
    for name in dict.fromkeys(row.name.split("/")[1] for row in record.rows):
        whose = {w: names.row_name(section, name, w) for w in (names.OURS, *names.LIBRARIES)}
        ours = record.row(whose[names.OURS])
        if ours is None:
            continue
        ratios = [ours.ratios.get(whose[library]) for library in names.LIBRARIES]
        plain = [ratio for to, ratio in ours.ratios.items() if to not in whose.values()]
        compared = compared or bool(plain)
        lines.append(
            [
                f"`{name}`",
                *(_rate(record.row(row), notes) for row in whose.values()),
                *(_interval(ratio) for ratio in ratios),
                *(_interval(ratio) for ratio in plain),
                str(ours.images_per_s.n) if ours.images_per_s else "",
            ]
        )
    header = ["", *(f"{library}, images/s" for library in (names.OURS, *names.LIBRARIES))]
    header += [f"× {library}" for library in names.LIBRARIES]
    header += [*["× uncompiled"] * compared, "n"]
    return "\n\n".join([markdown(header, lines), *notes.lines()])


class _Notes:
    """Remarks of a table, each lettered once."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """The letters that stand for a remark of one or several parts."""
        return ", ".join(self._letter(part) for part in text.split("; "))

    def _letter(self, text: str) -> str:
        number = len(self._letters)
        letter = chr(ord("a") + number % 26) * (1 + number // 26)
        return self._letters.setdefault(text, letter)

    def lines(self) -> list[str]:
        """The remarks, in one paragraph."""
        if not self._letters:
            return []
        return [". ".join(f"({letter}) {text}" for text, letter in self._letters.items()) + "."]


def _rate(row: Row | None, notes: _Notes) -> str:
    if row is None:
        return "-"
    if row.images_per_s is None:
        if row.error is not None:
            return f"error ({notes.mark(row.error)})"
        what, _, why = row.check.partition(": ")
        return f"{'no' if what == 'not applicable' else what} ({notes.mark(why)})"
    differs = row.figures.get("differs")
    return f"{row.images_per_s.median:,.0f}" + (f" ({notes.mark(differs)})" if differs else "")


def _interval(ratio: Estimate | None) -> str:
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else ""


def _ways_of_input(record: Record) -> str:
    lines = []
    for row in record.rows:
        rate = row.images_per_s
        if rate is None:
            lines.append([f"`{row.name}`", tables.verdict(row), *[""] * 4])
            continue
        copied = [ratio for name, ratio in row.ratios.items() if "/copy_" in name]
        mapped = [ratio for name, ratio in row.ratios.items() if name.endswith("/map")]
        written = rate.median * row.figures["bytes_per_image"] / 1e9
        lines.append(
            [
                f"`{row.name}`",
                f"{rate.median:,.0f} [{rate.low:,.0f}, {rate.high:,.0f}]",
                f"{written:.2f}",
                *(_interval(found[0] if found else None) for found in (mapped, copied)),
                str(rate.n),
            ]
        )
    header = ["", "images/s [quartiles]", "GB/s written", "× `input/map`", "share of the copy", "n"]
    return markdown(header, lines)


def _shares_of_step(record: Record) -> str:
    lines = []
    for row in record.rows:
        policy = row.name.partition("/")[2]
        rate = row.images_per_s
        if rate is None:
            lines.append([f"`{policy}`", tables.verdict(row), *[""] * 3])
            continue
        share = row.ratios.get(names.row_name(names.TRANSFORM, policy))
        slower = row.ratios.get(names.row_name(names.STEP, "none"))
        # What a step would save without the policy, from the rates of both.
        saved = slower and Estimate(1 - slower.median, 1 - slower.high, 1 - slower.low, slower.n)
        shares = _percent(share), _percent(saved)
        lines.append([f"`{policy}`", f"{rate.median:,.1f}", *shares, str(rate.n)])
    header = ["", "step, images/s", "share of the transform", "by difference of steps", "n"]
    return markdown(header, lines)


def _percent(share: Estimate | None) -> str:
    return f"{share.median:.2%} [{share.low:.2%}, {share.high:.2%}]" if share else ""


_LAYOUTS = {
    names.OPERATIONS: _libraries,
    names.POLICIES: _libraries,
    names.compiled(names.OPERATIONS): _libraries,
    names.compiled(names.POLICIES): _libraries,
    names.INPUT: _ways_of_input,
    names.STEP: _shares_of_step,
}


def _write(text: str, file: IO[bytes]) -> None:
    file.write(text.encode())


def main(root: Path = Path()) -> None:
    """Write the tables of all pages anew; a page without a change is left alone."""
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        filled = fill(text, root / RESULTS)
        if filled != text:
            write_whole(page, partial(_write, filled))
            print(f"{page}: {', '.join(marked(filled))}")


if __name__ == "__main__":
    main()
