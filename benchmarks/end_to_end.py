"""How fast a model is on this machine, everything included, and whether it became slower: tables, and JSON in benchmarks/reports.

    python benchmarks/end_to_end.py --report benchmarks/reports      # make bench
    python benchmarks/end_to_end.py --random          # before there are weights; speed does not depend on them

The portrait and the sentence are the demo's. Measured are whole videos (sound, generator, decoder, H.264), the wait for a live
stream's first picture and for every later block, the time every stage takes, and a fresh process: start to end, and its memory.
Then comes what `vivavoz bench` measures. The figures are compared with the last committed report of the same kind of machine; the
exit status is 1 where a time has grown by more than a quarter.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from rich.console import Console

import vivavoz
from vivavoz.bench.clock import clocked
from vivavoz.bench.guard import compare
from vivavoz.bench.machine import this_machine
from vivavoz.bench.report import render, run_bench
from vivavoz.bench.speed import Plan, waits_s
from vivavoz.config_json import to_plain
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.generate import read_speech
from vivavoz.engine.model import Model
from vivavoz.engine.runtime import RUNTIME_NAMES
from vivavoz.generator.config import BLOCK_SIZES
from vivavoz.media.video import VideoWriter
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT / "examples" / "speech.flac"
LIVE_S = 4.0
"""Sound pushed to every live stream."""

Figures = dict[str, Any]


def main() -> int:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.once:
        with tempfile.TemporaryDirectory() as folder:
            vivavoz.generate(skimage.data.astronaut(), SPEECH, Path(folder) / "talk.mp4", model=load(options))
        return 0
    fresh = measure_fresh_process()
    model = load(options)
    preset, machine = model.preset, this_machine(model.device)
    figures: Figures = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine.name,
        "python": machine.python,
        "torch": machine.torch,
        "preset": preset.name,
        "weights": "random" if options.random else options.model,
        "threads": machine.threads,
        "size_px": preset.output_size,
        "video": measure_videos(model, options.runs),
        "live": measure_live(model, options.runs),
        "stages_ms_per_frame": measure_stages(model),
        "fresh_process": fresh,
    }
    print_table(figures)
    block = run_bench(options.model, Plan(sampling=preset.sampling), [options.runtime], device=model.device, dtype=model.dtype)
    figures["block"] = to_plain(block)
    Console(width=125).print("", render(block))
    comparison = compare(figures, committed_reports())
    print(comparison)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        target = options.report / f"{datetime.now(UTC):%Y-%m-%d}-{machine.kind}.json"
        target.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(f"\n{target}")
    return 1 if comparison.is_slower else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a model's speed on this machine.")
    parser.add_argument("--model", default="lite", help="a preset, or a folder with weights")
    parser.add_argument("--random", action="store_true", help="random weights of the preset")
    parser.add_argument("--runtime", choices=RUNTIME_NAMES, default="auto")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's own choice)")
    parser.add_argument("--runs", type=int, default=5, help="videos and live streams measured, after one to warm up")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write the figures there as JSON")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def load(options: argparse.Namespace) -> Model:
    if not options.random:
        return vivavoz.load(options.model, runtime=options.runtime)
    model = Model.initialised(vivavoz.preset_by_name(options.model))
    model.use_runtime(options.runtime)
    return model


def measure_fresh_process() -> Figures:
    """One whole video in a process of its own: imports, weights, face finding and all."""
    started_s = time.perf_counter()
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--once"], check=True)
    seconds = time.perf_counter() - started_s
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak_bytes / 1e6)}


def measure_videos(model: Model, runs: int) -> Figures:
    """`vivavoz.generate` from a picture and a sound file to an MP4."""
    portrait = skimage.data.astronaut()
    per_frame_ms, totals_s, num_frames = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            started_s = time.perf_counter()
            summary = vivavoz.generate(portrait, SPEECH, Path(folder) / "talk.mp4", model=model)
            if run:  # the first only warms up
                totals_s.append(time.perf_counter() - started_s)
                per_frame_ms.append(1000 / summary.fps)
                num_frames = summary.num_frames
    spread = percentiles(per_frame_ms)
    return {
        "num_frames": num_frames,
        "fps": round(1000 / spread["p50"], 1),
        "real_time_factor": round(spread["p50"] * FRAME_RATE / 1000, 3),
        "ms_per_frame": spread,
        "seconds_with_portrait": percentiles(totals_s),
    }


def measure_live(model: Model, runs: int) -> list[Figures]:
    """Streams that get their sound picture by picture: the wait from the sound that completes a block to its first picture."""
    avatar, samples = prepare(model)
    samples = samples[: int(LIVE_S * SAMPLE_RATE_HZ)]
    rows = []
    for block in (size for size in sorted(BLOCK_SIZES) if size <= model.preset.generator.block_latents):
        first_ms: list[float] = []
        later_ms: list[float] = []
        for run in range(runs + 1):
            with avatar.stream(block_latents=block) as stream:
                waits = [1000 * wait_s for wait_s in waits_s(stream, samples)]
            if run:
                first_ms.append(waits[0])
                later_ms += waits[1:]
        budget = vivavoz.latency_budget(block)
        rows.append(
            {
                "block_latents": block,
                "sound_needed_ms": round(1000 * float(budget.first_picture_s)),
                "first_picture_ms": percentiles(first_ms),
                "later_blocks_ms": percentiles(later_ms),
            }
        )
    return rows


def measure_stages(model: Model) -> Figures:
    """Where the time of a whole video goes, in ms per frame; the generator has what no other stage claims."""
    avatar, samples = prepare(model)
    for _ in range(2):  # the first only warms up
        with (
            clocked(model) as spent,
            tempfile.TemporaryDirectory() as folder,
            avatar.stream() as stream,
            VideoWriter(Path(folder) / "talk.mp4", (avatar.size, avatar.size)) as writer,
        ):
            encoding_s, num_frames = 0.0, 0
            started_s = time.perf_counter()
            for frames in (stream.push(samples), stream.flush()):
                for frame in frames:
                    encoding_s -= time.perf_counter()
                    writer.write_frame(frame.image)
                    encoding_s += time.perf_counter()
                    num_frames += 1
            encoding_s -= time.perf_counter()
            writer.write_samples(samples)
            writer.close()
            ended_s = time.perf_counter()
            encoding_s += ended_s
        whole_s = ended_s - started_s
    stages = {
        "audio": spent["audio"],
        "generator": whole_s - encoding_s - sum(spent.values()),
        "decode": spent["decoder"],
        "H.264": encoding_s,
        "all": whole_s,
    }
    return {name: round(1000 * seconds / num_frames, 2) for name, seconds in stages.items()}


def prepare(model: Model) -> tuple[Avatar, np.ndarray]:
    return model.avatar(skimage.data.astronaut()), read_speech(SPEECH)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95)}


def commit() -> str:
    """The checkout's commit, with `+` where files differ from it."""
    try:
        return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def committed_reports() -> dict[str, str]:
    """Names and texts of the reports as they are committed, or, without git, as they lie there."""
    try:
        names = git("ls-tree", "--name-only", "HEAD", "benchmarks/reports/").split()
        return {Path(name).name: git("show", f"HEAD:{name}") for name in names if name.endswith(".json")}
    except (OSError, subprocess.CalledProcessError):
        return {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "reports").glob("*.json")}


def git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True, stderr=subprocess.DEVNULL)


def print_table(figures: Figures) -> None:
    video, fresh, stages = figures["video"], figures["fresh_process"], figures["stages_ms_per_frame"]
    size = figures["size_px"]
    print(f"`{figures['preset']}` ({figures['weights']} weights), {size} x {size}, commit {figures['commit']}, {figures['date']}")
    print(f"{figures['machine']}; torch {figures['torch']}, {figures['threads']} threads\n")
    print("| whole videos | p50 | p95 |")
    print("| --- | ---: | ---: |")
    print(f"| frames per second | {video['fps']} | {1000 / video['ms_per_frame']['p95']:.1f} |")
    print(f"| ms per frame | {video['ms_per_frame']['p50']:.1f} | {video['ms_per_frame']['p95']:.1f} |")
    totals = video["seconds_with_portrait"]
    print(f"| s for {video['num_frames']} frames, portrait included | {totals['p50']:.2f} | {totals['p95']:.2f} |\n")
    print("| live, block | sound before the first picture | first picture p50 | p95 | later blocks p50 | p95 |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in figures["live"]:
        first, later = row["first_picture_ms"], row["later_blocks_ms"]
        print(
            f"| {row['block_latents']} | {row['sound_needed_ms']} ms | {first['p50']:.0f} ms | {first['p95']:.0f} ms "
            f"| {later['p50']:.0f} ms | {later['p95']:.0f} ms |"
        )
    print("\n| stage | " + " | ".join(stages) + " |")
    print("| --- |" + " ---: |" * len(stages))
    print("| ms per frame | " + " | ".join(f"{value:.2f}" for value in stages.values()) + " |")
    print(f"\nA fresh process: {fresh['seconds']} s from start to end, {fresh['peak_memory_mb']} MB at its peak.")


if __name__ == "__main__":
    sys.exit(main())
