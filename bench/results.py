"""Results of one run: from rounds to one number, and to a table and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.cases import Bar, Unit

C = "C"
_HEADINGS = ("case", "placed", "who", "value", "p99", "ratio", "bar", "")
_RIGHT = frozenset({3, 4, 5, 6})


@dataclass
class Result:
    """One contender's numbers of one case and placement.

    ``values`` and ``ratios`` have one entry a round; the reported number is
    their median, so that one disturbed round cannot move it. ``failed`` says
    why there is none.
    """

    case: str
    title: str
    placement: str
    who: str
    unit: Unit
    values: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    bar: Bar | None = None
    failed: str | None = None
    note: str = ""

    @property
    def value(self) -> float | None:
        """Median of the rounds, in ``unit``."""
        return statistics.median(self.values) if self.values else None

    @property
    def p99(self) -> float | None:
        """Median of the rounds' 99th percentiles, in ``unit`` (for latencies only)."""
        return statistics.median(self.p99s) if self.p99s else None

    @property
    def ratio(self) -> float | None:
        """Median of the ratios to the case's base, each taken within a round."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is no bar. A case that failed in any round does not meet it."""
        if self.bar is None:
            return None
        return self.failed is None and self.value is not None and self.bar.met(self.value, self.ratio)

    def as_json(self) -> dict[str, object]:
        """Return everything, for programs."""
        return {
            "case": self.case,
            "title": self.title,
            "placement": self.placement,
            "who": self.who,
            "unit": self.unit,
            "value": self.value,
            "p99": self.p99,
            "ratio": self.ratio,
            "rounds": self.values,
            "bar": None if self.bar is None else str(self.bar),
            "bar_met": self.met,
            "failed": self.failed,
            "note": self.note,
        }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _cells(result: Result) -> list[str]:
    value = "failed" if result.value is None else f"{_number(result.value)} {result.unit}"
    verdict = {None: "", True: "ok", False: "MISS"}[result.met]
    return [
        result.title,
        result.placement,
        result.who,
        value,
        _number(result.p99) if result.p99s else "",
        f"{result.ratio:.2f} x" if result.ratio is not None else "",
        str(result.bar) if result.bar is not None else "",
        "  ".join(part for part in (verdict, result.failed or result.note) if part),
    ]


def table(results: Sequence[Result]) -> str:
    """Return the results as aligned text; a title and placement are written once for the lines that share them."""
    rows = [list(_HEADINGS)]
    previous: tuple[str, str] | None = None
    for result in results:
        cells = _cells(result)
        if (result.title, result.placement) == previous:
            cells[0] = cells[1] = ""
        previous = (result.title, result.placement)
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    widths[-1] = 4  # what went wrong may be long and needs no alignment
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def verdict(results: Sequence[Result]) -> str:
    """Return one line that says how many bars are met and which are not."""
    barred = [result for result in results if result.bar is not None]
    missed = [f"{result.case} ({result.placement})" for result in barred if not result.met]
    line = f"{len(barred) - len(missed)} of {len(barred)} bars met"
    return f"{line}; missed: {', '.join(missed)}" if missed else line
