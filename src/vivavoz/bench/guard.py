"""Whether the whole became slower: a report of `make bench` against the last one of the same kind of machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vivavoz.bench.machine import kind_of

MOST_RATIO = 1.25
"""Times that are longer than before by more than this are a failure; machines differ by less from one hour to the next."""

Report = Mapping[str, Any]
"""Figures of `benchmarks/end_to_end.py` as JSON has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One time, before and now."""

    what: str
    before_ms: float
    now_ms: float

    @property
    def ratio(self) -> float:
        """Above 1: slower than before."""
        return self.now_ms / self.before_ms

    @property
    def is_slower(self) -> bool:
        """Whether it is slower by more than can be put down to the machine."""
        return self.ratio > MOST_RATIO

    def __str__(self) -> str:
        change = f"{self.what}: {self.before_ms:.1f} -> {self.now_ms:.1f} ms, {self.ratio:.2f} times"
        return f"{change}, more than {MOST_RATIO:g}: SLOWER" if self.is_slower else change


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What came of comparing."""

    against: str | None
    """Name of the earlier report; None where there is none that can be compared with."""
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """A line for every report that was passed over, and why, and for figures that only one of the two reports has."""

    @property
    def is_slower(self) -> bool:
        """Whether any time is."""
        return any(line.is_slower for line in self.lines)

    def __str__(self) -> str:
        head = f"against {self.against}:" if self.against else "no earlier report of this kind of machine to compare with"
        return "\n".join([*self.notes, head, *map(str, self.lines)])


def compare(report: Report, earlier: Mapping[str, str]) -> Comparison:
    """Compare `report` with the last of the `earlier` ones (name to JSON text) that measured the same on the same kind of
    machine.

    Passed over are reports of other benchmarks, machines, presets, sizes and numbers of threads, and damaged ones.
    """
    notes: list[str] = []
    last_name, last = None, None
    for name, text in sorted(earlier.items()):
        other = _read(text)
        if reason := _unlike(report, other):
            notes.append(f"{name}: passed over, {reason}")
        elif last is None or other["date"] >= last["date"]:
            last_name, last = name, other
    if last is None:
        return Comparison(against=None, lines=(), notes=tuple(notes))
    now, before = dict(times_ms(report)), dict(times_ms(last))
    notes += [f"{what}: not measured before" for what in now if what not in before]
    notes += [f"{what}: not measured now" for what in before if what not in now]
    lines = tuple(Line(what=what, before_ms=before[what], now_ms=now[what]) for what in now if what in before)
    return Comparison(against=last_name, lines=lines, notes=tuple(notes))


def times_ms(report: Report) -> Iterator[tuple[str, float]]:
    """The medians in a report that are compared, in ms, each with its name."""
    yield "whole video, a frame", report["video"]["ms_per_frame"]["p50"]
    for row in report["live"]:
        where = f"live, blocks of {row['block_latents']}"
        yield f"{where}, first picture", row["first_picture_ms"]["p50"]
        yield f"{where}, later blocks", row["later_blocks_ms"]["p50"]
    for speed in report.get("block", {}).get("speeds", ())[:1]:
        yield "a block's t_G", speed["generating_ms"]["p50"]
        yield "a block's t_D", speed["decoding_ms"]["p50"]


def _read(text: str) -> Report:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _unlike(report: Report, other: Report) -> str | None:
    """Why two reports cannot be compared, if so."""
    if not {"date", "machine", "video", "live"} <= other.keys():
        return "not a report of `make bench`"
    if (kind := kind_of(other["machine"])) != (own := kind_of(report["machine"])):
        return f"it is of {kind}, and this is {own}"
    for key in ("preset", "size_px", "threads"):
        if report[key] != other.get(key):
            return f"its {key} is {other.get(key)}, and here it is {report[key]}"
    return None
