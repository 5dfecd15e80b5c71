from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from vivavoz.bench.guard import compare, times_ms

REPORTS = Path(__file__).parents[3] / "benchmarks" / "reports"
HERE = "Some(R) Chip, 2 CPUs, Linux"


def report(*, date: str = "2026-01-02 03:04 UTC", machine: str = HERE, factor: float = 1.0, **others: Any) -> dict[str, Any]:
    """Figures as `make bench` writes them; `factor` makes all times longer."""
    return {
        "date": date,
        "machine": machine,
        "preset": "lite",
        "size_px": 512,
        "threads": 2,
        "video": {"ms_per_frame": {"p50": 20.0 * factor, "p95": 30.0}},
        "live": [
            {"block_latents": 4, "first_picture_ms": {"p50": 200.0 * factor}, "later_blocks_ms": {"p50": 220.0 * factor}},
        ],
        "block": {"speeds": [{"generating_ms": {"p50": 40.0 * factor}, "decoding_ms": {"p50": 240.0 * factor}}]},
        **others,
    }


def earlier(**reports: dict[str, Any]) -> dict[str, str]:
    return {f"{name}.json": json.dumps(one) for name, one in reports.items()}


def test_slower_by_a_fifth_passes_and_every_ratio_is_told() -> None:
    found = compare(report(factor=1.2), earlier(before=report()))
    assert not found.is_slower
    assert found.against == "before.json"
    assert [line.ratio for line in found.lines] == pytest.approx([1.2] * 5)
    assert "whole video, a frame: 20.0 -> 24.0 ms, 1.20 times\n" in str(found)


def test_slower_by_three_tenths_fails() -> None:
    found = compare(report(factor=1.3), earlier(before=report()))
    assert found.is_slower
    assert str(found).count("SLOWER") == 5


def test_one_time_that_is_slower_is_enough() -> None:
    now = report()
    now["live"][0]["later_blocks_ms"]["p50"] *= 1.3
    found = compare(now, earlier(before=report()))
    assert found.is_slower
    assert [line.what for line in found.lines if line.is_slower] == ["live, blocks of 4, later blocks"]


def test_faster_is_no_failure() -> None:
    assert not compare(report(factor=0.2), earlier(before=report())).is_slower


def test_another_kind_of_machine_is_not_compared() -> None:
    found = compare(report(factor=9), earlier(other=report(machine="Other(TM) Chip, 2 CPUs, Linux")))
    assert (found.against, found.lines, found.is_slower) == (None, (), False)
    assert "other.json: passed over, it is of other-chip-2cpu, and this is some-chip-2cpu" in str(found)
    more_cpus = compare(report(factor=9), earlier(other=report(machine="Some(R) Chip, 8 CPUs, Linux")))
    assert more_cpus.against is None


def test_without_an_earlier_report_it_says_so() -> None:
    found = compare(report(), {})
    assert str(found) == "no earlier report of this kind of machine to compare with"
    assert not found.is_slower


def test_the_last_one_counts_whatever_the_names() -> None:
    reports = earlier(a=report(date="2026-03-01 00:00 UTC"), b=report(date="2026-02-01 00:00 UTC", factor=0.1))
    found = compare(report(), reports)
    assert found.against == "a.json"
    assert not found.is_slower


@pytest.mark.parametrize(("key", "value"), [("preset", "paper"), ("size_px", 256), ("threads", 1)])
def test_what_was_measured_otherwise_is_passed_over(key: str, value: object) -> None:
    found = compare(report(), earlier(before=report(**{key: value})))
    assert found.against is None
    assert f"before.json: passed over, its {key} is {value}" in found.notes[0]


def test_other_reports_and_damaged_ones_are_passed_over_with_a_line() -> None:
    others = {
        "live.json": json.dumps({"date": "2026", "machine": HERE, "runs": []}),
        "cut.json": '{"date": "20',
        "list.json": "[1]",
    }
    found = compare(report(), {**others, **earlier(good=report())})
    assert found.against == "good.json"
    assert found.notes == tuple(f"{name}: passed over, not a report of `make bench`" for name in sorted(others))


def test_figures_that_only_one_report_has_are_told_and_not_judged() -> None:
    old = report()
    del old["block"]
    found = compare(report(), earlier(old=old))
    assert found.notes == ("a block's t_G: not measured before", "a block's t_D: not measured before")
    assert len(found.lines) == 3
    now = copy.deepcopy(report())
    now["live"] = []
    assert "live, blocks of 4, first picture: not measured now" in compare(now, earlier(before=report())).notes


def test_the_committed_reports_can_be_read() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in REPORTS.glob("*.json")}
    comparable = 0
    for name, text in texts.items():
        figures = json.loads(text)
        if "video" not in figures:
            continue
        comparable += 1
        found = compare(figures, {name: text})
        assert len(found.lines) == len(list(times_ms(figures))) >= 3
        assert {line.ratio for line in found.lines} == {1.0}
    assert comparable >= 2
