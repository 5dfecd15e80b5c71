"""How fast a model is on this machine, from files to file and live: a table, and JSON in benchmarks/reports.

    python benchmarks/end_to_end.py --report benchmarks/reports
    python benchmarks/end_to_end.py --random          # before there are weights; speed does not depend on them

The portrait and the sentence are the demo's. Measured are whole videos (sound, generator, decoder, H.264), the wait for a live
stream's first picture and for every later block, the time every stage takes, and a fresh process: start to end, and its memory.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch

import vivavoz
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.generate import read_speech
from vivavoz.engine.model import Model
from vivavoz.generator.config import BLOCK_SIZES
from vivavoz.media.video import VideoWriter
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT / "examples" / "speech.flac"
LIVE_S = 4.0
"""Sound pushed to every live stream."""
STAGES = ("audio", "generator", "decode", "H.264")

Figures = dict[str, Any]


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.once:
        with tempfile.TemporaryDirectory() as folder:
            vivavoz.generate(skimage.data.astronaut(), SPEECH, Path(folder) / "talk.mp4", model=load(options))
        return
    fresh = measure_fresh_process()
    model = load(options)
    figures: Figures = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{cpu_name()}, {os.cpu_count()} CPUs, {platform.system()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "preset": model.preset.name,
        "weights": "random" if options.random else options.model,
        "threads": torch.get_num_threads(),
        "size_px": model.preset.output_size,
        "video": measure_videos(model, options.runs),
        "live": measure_live(model, options.runs),
        "stages_ms_per_frame": measure_stages(model),
        "fresh_process": fresh,
    }
    print_table(figures)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        target = options.report / f"{datetime.now(UTC):%Y-%m-%d}-{slug(cpu_name())}-{os.cpu_count()}cpu.json"
        target.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(f"\n{target}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a model's speed on this machine.")
    parser.add_argument("--model", default="lite", help="a preset, or a folder with weights")
    parser.add_argument("--random", action="store_true", help="random weights of the preset")
    parser.add_argument("--runtime", choices=("auto", "eager", "compiled"), default="auto")
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
            waits = list(waits_ms(avatar, samples, block))
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


def waits_ms(avatar: Avatar, samples: np.ndarray, block: int) -> Iterator[float]:
    """From every push that completes a block to that block's first picture."""
    with avatar.stream(block_latents=block) as stream:
        for start in range(0, len(samples), SAMPLES_PER_FRAME):
            started_s = time.perf_counter()
            for i, _ in enumerate(stream.push(samples[start : start + SAMPLES_PER_FRAME])):
                if i == 0:
                    yield 1000 * (time.perf_counter() - started_s)


def measure_stages(model: Model) -> Figures:
    """Where the time of a whole video goes, in ms per frame; `rest` is what no stage claims."""
    spent = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def clock(stage: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        spent[stage] += time.perf_counter() - started_s

    def timed(stage: str, step: Callable) -> Callable:
        def run(*arguments: Any) -> Any:
            with clock(stage):
                return step(*arguments)

        return run

    runtime = model.runtime
    avatar, samples = prepare(model)
    hearing = (model.audio.next_windows, model.audio.encoder.forward)
    model.audio.next_windows, model.audio.encoder.forward = (timed("audio", step) for step in hearing)  # type: ignore[method-assign]
    model.runtime = replace(
        runtime,
        velocity=timed("generator", runtime.velocity),
        guidance_velocities=timed("generator", runtime.guidance_velocities),
        write_context=timed("generator", runtime.write_context),
        decode_first=timed("decode", runtime.decode_first),
        decode=timed("decode", runtime.decode),
    )
    try:
        for _ in range(2):  # the first only warms up
            spent.update(dict.fromkeys(STAGES, 0.0))
            with tempfile.TemporaryDirectory() as folder, avatar.stream() as stream:
                started_s, num_frames = time.perf_counter(), 0
                with VideoWriter(Path(folder) / "talk.mp4", (avatar.size, avatar.size)) as writer:
                    for frames in (stream.push(samples), stream.flush()):
                        for frame in frames:
                            with clock("H.264"):
                                writer.write_frame(frame.image)
                            num_frames += 1
                    with clock("H.264"):
                        writer.write_samples(samples)
                        writer.close()
                whole_s = time.perf_counter() - started_s
    finally:
        model.runtime = runtime
        model.audio.next_windows, model.audio.encoder.forward = hearing  # type: ignore[method-assign]
    rest = whole_s - sum(spent.values())
    return {name: round(1000 * seconds / num_frames, 2) for name, seconds in {**spent, "rest": rest, "all": whole_s}.items()}


def prepare(model: Model) -> tuple[Avatar, np.ndarray]:
    return model.avatar(skimage.data.astronaut()), read_speech(SPEECH)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95)}


def commit() -> str:
    """The checkout's commit, with `+` where files differ from it."""
    try:
        name = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
        return name + ("+" if subprocess.check_output(["git", "status", "--porcelain", "-uno"], cwd=ROOT).strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|cpu|processor|@.*", "", text.lower())).strip("-")


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
    main()
