"""How fast shards are written and read, and whether reading keeps a training step waiting: a table, and JSON.

    python benchmarks/shards.py                      # on clips made for the purpose
    python benchmarks/shards.py CORPUS --step-s 0.8  # on a corpus, for training steps of 0.8 s

Speed per core is counted in the processor's own seconds, so that other programs on the machine do not blur it. A step of training
is stood in for by sleeping: what the cores would lose to decoding meanwhile is said as a share of them.
"""

import argparse
import json
import os
import platform
import tempfile
import time

import numpy as np

from end_to_end import commit, cpu_name
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import LABELS, MAX_FRAMES, Clip, ClipInfo
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ShardWindows, WindowConfig, window_loader


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast shards are written and read.")
    parser.add_argument("corpus", nargs="?", help="folder or URL of a corpus (default: clips made for the purpose)")
    parser.add_argument("--clips", type=int, default=4, help="clips of 10 s to make")
    parser.add_argument("--batch", type=int, default=4, help="windows in a batch")
    parser.add_argument("--frames", type=int, default=17, help="frames in a window, 1 + 4n")
    parser.add_argument("--steps", type=int, default=20, help="batches to measure, after one to warm up")
    parser.add_argument("--step-s", type=float, default=1.0, help="seconds that a training step takes")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode beside the training")
    parser.add_argument("--cores", type=int, default=2, help="cores that training and decoding share")
    options = parser.parse_args()
    figures = {"commit": commit(), "machine": f"{cpu_name()}, {os.cpu_count()} CPUs", "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus
        if corpus is None:
            corpus = folder
            figures["writing"] = write(folder, options.clips)
        figures["reading"] = [read(corpus, options, size_px) for size_px in (256, 512)]
        figures["feeding"] = feed(corpus, options)
    print(json.dumps(figures, indent=1))
    print_table(figures, options)


def write(folder: str, num_clips: int) -> dict[str, float]:
    clips = [make_clip(number) for number in range(num_clips)]
    started_s = time.process_time()
    shard = write_shard(f"{folder}/clips.tar", clips)
    assert shard is not None
    spent_s = time.process_time() - started_s
    Manifest(shards=(shard,)).save(folder)
    num_frames = num_clips * MAX_FRAMES
    return {
        "frames_per_core_s": round(num_frames / spent_s, 1),
        "mb_per_minute": round(shard.num_bytes / num_frames * 1500 / 1e6, 2),
    }


def read(corpus: str, options: argparse.Namespace, size_px: int) -> dict[str, float]:
    """One process: batches, after one to warm up."""
    config = WindowConfig(batch_size=options.batch, num_frames=options.frames, size_px=size_px)
    windows = ShardWindows(corpus, config)
    windows[0]
    started_s = time.process_time()
    num_references = sum(windows[index].references.shape[1] * options.batch for index in range(1, 1 + options.steps))
    spent_s = time.process_time() - started_s
    return {
        "size_px": size_px,
        "clips_per_core_s": round(options.steps * options.batch / spent_s, 1),
        "core_s_per_batch": round(spent_s / options.steps, 4),
        "references_per_clip": round(num_references / options.steps / options.batch, 2),
    }


def feed(corpus: str, options: argparse.Namespace) -> dict[str, float]:
    """Steps that take `step_s` each, fed by workers: the time they wait for data, after the first batch."""
    windows = ShardWindows(corpus, WindowConfig(batch_size=options.batch, num_frames=options.frames))
    batches = iter(window_loader(windows, num_workers=options.workers))
    next(batches)
    waited_s = []
    for _ in range(options.steps):
        time.sleep(options.step_s)
        started_s = time.perf_counter()
        next(batches)
        waited_s.append(time.perf_counter() - started_s)
    return {"step_s": options.step_s, "waited_s_p50": float(np.median(waited_s)), "waited_s_max": max(waited_s)}


def make_clip(number: int) -> Clip:
    """Ten seconds of moving texture and noise, about as hard to code as a filmed face."""
    rng = np.random.default_rng(number)
    rows, columns, channels = np.ogrid[:512, :512, :3]
    frames = np.empty((MAX_FRAMES, 512, 512, 3), np.uint8)
    grain = rng.normal(0, 2, (512, 512, 3))
    for index in range(MAX_FRAMES):
        wave = np.sin((rows + 3 * np.sin(index / 9)) / 13 + channels) * np.cos((columns + 5 * np.sin(index / 7)) / 17)
        frames[index] = np.clip(120 + 70 * wave + np.roll(grain, 7 * index, 0), 0, 255)
    labels = {}
    for name, kind in LABELS.items():
        shape = (MAX_FRAMES, len(kind.columns)) if kind.columns else (MAX_FRAMES,)
        labels[name] = (rng.integers(3, size=shape) if kind.classes else rng.normal(0, 0.1, shape)).astype(kind.dtype)
    walk = rng.normal(256, 60, (1, 478, 3)) + np.cumsum(rng.normal(0, 0.3, (MAX_FRAMES, 478, 3)), 0)
    return Clip(
        info=ClipInfo(
            key=f"made-{number}",
            identity=f"nobody {number // 2}",
            source="made for the benchmark",
            licence="CC0",
            split="train",
            num_frames=MAX_FRAMES,
        ),
        frames=frames,
        samples=rng.normal(0, 0.1, MAX_FRAMES * 640).clip(-1, 1).astype(np.float32),
        landmarks=np.clip(walk, -900, 900).astype(np.float32),
        labels=labels,
    )


def print_table(figures: dict, options: argparse.Namespace) -> None:
    if "writing" in figures:
        writing = figures["writing"]
        print(f"\nwriting: {writing['frames_per_core_s']} frames/s per core, both sizes; {writing['mb_per_minute']} MB a minute")
    head = f"windows of {options.frames} frames, batches of {options.batch}"
    print(f"\n| {head} | clips/s per core | frames/s per core | core s per batch |")
    print("| --- | ---: | ---: | ---: |")
    for row in figures["reading"]:
        name = f"{row['size_px']} px, {row['references_per_clip']} references each"
        frames_s = row["clips_per_core_s"] * options.frames
        print(f"| {name} | {row['clips_per_core_s']} | {frames_s:.0f} | {row['core_s_per_batch']} |")
    feeding, cost_s = figures["feeding"], figures["reading"][0]["core_s_per_batch"]
    waits_ms = [1000 * feeding[name] for name in ("waited_s_p50", "waited_s_max")]
    lost, share = feeding["waited_s_p50"] / options.step_s, cost_s / (options.step_s * options.cores)
    print(f"\n{options.workers} worker(s) at 256 px: a step of {options.step_s:g} s waits {waits_ms[0]:.1f} ms for its data,")
    print(f"{100 * lost:.1f} % (at most {waits_ms[1]:.1f} ms); decoding takes {100 * share:.1f} % of {options.cores} cores")


if __name__ == "__main__":
    main()
