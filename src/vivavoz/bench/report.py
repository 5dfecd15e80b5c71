"""The report of `vivavoz bench`: all figures, what they are of the machine's peak, and a table."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

import vivavoz
from vivavoz.bench.clock import Spread
from vivavoz.bench.counting import StageCount, count_block
from vivavoz.bench.machine import Machine, Peak, measure_peak, this_machine
from vivavoz.bench.speed import Plan, Speed, measure, open_model
from vivavoz.config_json import to_plain
from vivavoz.engine.runtime import RuntimeName
from vivavoz.engine.weights import find_weights, read_preset
from vivavoz.errors import ConfigError
from vivavoz.presets import PRESETS, Preset, SamplingConfig, preset_by_name
from vivavoz.timing import FRAMES_PER_LATENT

CARDS = {
    "H100": Peak(dtype="bfloat16", product_gflops=989_400, copy_gb_s=3350),
    "H200": Peak(dtype="bfloat16", product_gflops=989_400, copy_gb_s=4800),
}
"""NVIDIA's data sheets, SXM: dense products in bfloat16, and memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchReport:
    """What `vivavoz bench` found out."""

    date: str
    """Universal time, `2026-11-21 22:30 UTC`."""
    version: str
    machine: Machine
    preset: str
    weights: str
    """What was asked for, or `random`."""
    size_px: int
    window_latents: int
    sampling: SamplingConfig
    sessions: int
    counts: tuple[StageCount, ...]
    """Of a block of all sessions, at the width of `dtype`."""
    dtype: str
    peak: Peak | None
    """None where nothing was run."""
    speeds: tuple[Speed, ...]
    """Of every runtime that could be measured; none where nothing was run."""
    left_out: dict[str, str]
    """Runtimes that could not, and why."""

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(to_plain(self), indent=2) + "\n"


def preset_of(name_or_path: str) -> Preset:
    """The preset called so, or that of the weights in a folder. Raises `ConfigError` and `WeightsError` as `load` does."""
    return preset_by_name(name_or_path) if name_or_path in PRESETS else read_preset(find_weights(name_or_path))


def run_bench(
    name_or_path: str,
    plan: Plan,
    runtimes: Sequence[RuntimeName],
    *,
    device: torch.device,
    dtype: torch.dtype,
    tell: Callable[[str], None] = lambda line: None,
) -> BenchReport:
    """Count, measure the machine's peak, then every runtime on a model of its own; `tell` hears what comes next.

    A runtime that does not go with the machine or the model is left out with its reason. Raises as `load` does, and
    `ConfigError` when none is left.
    """
    tell("peak of this machine")
    peak = measure_peak(device, dtype)
    speeds: list[Speed] = []
    left_out: dict[str, str] = {}
    weights = name_or_path
    for name in runtimes:
        tell(f"runtime {name}")
        model, is_random = open_model(name_or_path, device, dtype)
        weights = "random" if is_random else name_or_path
        try:
            model.use_runtime(name)
        except ConfigError as error:
            left_out[name] = str(error)
        else:
            speeds.append(measure(model, plan))
        del model  # it is in a circle with its runtime, and the next one may not fit beside it
        gc.collect()
    if not speeds:
        raise ConfigError("; ".join(left_out.values()))
    report = count_only(name_or_path, plan, dtype=dtype)
    return replace(report, machine=this_machine(device), weights=weights, peak=peak, speeds=tuple(speeds), left_out=left_out)


def count_only(name_or_path: str, plan: Plan, *, dtype: torch.dtype) -> BenchReport:
    """The report with operations and bytes, and nothing measured. Raises as `preset_of` does."""
    preset = replace(preset_of(name_or_path), sampling=plan.sampling)
    return BenchReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=vivavoz.__version__,
        machine=this_machine(torch.device("cpu")),
        preset=preset.name,
        weights=name_or_path,
        size_px=preset.output_size,
        window_latents=preset.generator.window_latents,
        sampling=plan.sampling,
        sessions=plan.sessions,
        dtype=str(dtype).removeprefix("torch."),
        counts=count_block(preset, sessions=plan.sessions, dtype=dtype),
        peak=None,
        speeds=(),
        left_out={},
    )


def floor_ms(count: StageCount, peak: Peak) -> float:
    """What a stage takes at the least: the longer of its products and its bytes, each at the peak."""
    return max(1000 * count.gflop / peak.product_gflops, count.megabytes / peak.copy_gb_s)


def render(report: BenchReport) -> Group:
    """The report to print with rich."""
    sampling = report.sampling
    guidance = f"guidance {sampling.guidance_audio:g}/{sampling.guidance_reference:g}" if sampling.is_guided else "no guidance"
    what = f"{report.weights} weights, " if report.speeds else ""
    head = [
        f"{report.preset}, {what}{report.size_px} x {report.size_px} px, {report.dtype}, {report.date}",
        f"{_many(sampling.num_steps, 'step')}, {guidance}, blocks of {sampling.block_latents} behind a window of "
        f"{report.window_latents} latents, {_many(report.sessions, 'session')}",
    ]
    if report.peak is not None:
        machine = report.machine
        head += [
            f"{machine.name}; torch {machine.torch}, {_many(machine.threads, 'thread')}",
            f"at most {report.peak.product_gflops:,.0f} GFLOP/s of products in {report.peak.dtype}, "
            f"{report.peak.copy_gb_s:,.1f} GB/s of copies",
        ]
    head += [f"{name}: left out, {why}" for name, why in report.left_out.items()]
    tables = [_speeds(report), *(_stages(report, speed) for speed in report.speeds)] if report.speeds else [_stages(report, None)]
    return Group(Text("\n".join(head)), *tables)


def _speeds(report: BenchReport) -> Table:
    overlaps = any(speed.overlapped_ms for speed in report.speeds)
    table = Table(title="median / 95th percentile in ms", box=box.SIMPLE)
    table.add_column("runtime")
    times = ("t_G", "t_D", *(("overlapped", "frames/s") if overlaps else ()), "first picture", "later picture")
    for heading in ("frames/s", *times, "session", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for speed in report.speeds:
        cells = [speed.runtime + (f", {speed.rows_at_once} at a time" if report.sessions > 1 else ""), f"{speed.fps:,.1f}"]
        cells += [_both(speed.generating_ms), _both(speed.decoding_ms)]
        if speed.overlapped_ms is not None:
            cells += [_both(speed.overlapped_ms), f"{1000 * speed.frames / speed.overlapped_ms.p50:,.1f}"]
        cells += [_both(speed.first_picture_ms), _both(speed.later_picture_ms)]
        table.add_row(*cells, f"{speed.session_mb:,.1f} MB", f"{speed.peak_memory_mb:,.0f} MB")
    return table


def _both(spread: Spread) -> str:
    return f"{spread.p50:,.1f} / {spread.p95:,.1f}"


def _stages(report: BenchReport, speed: Speed | None) -> Table:
    """Every stage's cost for a block, its floor at peaks, and how much of this machine's peak it reached."""
    peaks = {"here": report.peak} if report.peak else {}
    if report.dtype == CARDS["H100"].dtype:
        peaks |= CARDS
    frames = report.sessions * report.sampling.block_latents * FRAMES_PER_LATENT
    table = Table(title=f"a block of {frames} frames{f', {speed.runtime}' if speed else ''}", box=box.SIMPLE)
    table.add_column("stage")
    measured = ("ms", "of products", "of copies") if speed and report.peak else ()
    for heading in ("GFLOP", "weights", "caches", "features", *(f"floor {name}" for name in peaks), *measured):
        table.add_column(heading, justify="right", no_wrap=True)
    for count in report.counts:
        cells = [f"{count.gflop:,.3g}" if count.gflop < 100 else f"{count.gflop:,.0f}"]
        cells += [f"{megabytes:,.1f} MB" for megabytes in (count.weight_mb, count.cache_mb, count.feature_mb)]
        cells += [f"{floor_ms(count, peak):,.2f} ms" for peak in peaks.values()]
        if speed and report.peak:
            spent_ms = speed.stages_ms[count.stage].p50
            cells += [
                f"{spent_ms:,.2f}",
                f"{1000 * count.gflop / spent_ms / report.peak.product_gflops:.1%}",
                f"{count.megabytes / spent_ms / report.peak.copy_gb_s:.1%}",
            ]
        table.add_row(count.stage, *cells)
    return table


def _many(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"
