"""How fast shards are written and read, and whether reading keeps the training of `lite`'s VAE waiting: a table, and JSON.

    python benchmarks/shards.py           # on clips made for the purpose
    python benchmarks/shards.py CORPUS    # on a corpus, a folder or URL

Speed per core is counted in the processor's own seconds, so that other programs on the machine do not blur it.
"""

import argparse
import json
import os
import platform
import tempfile
import time

import numpy as np
import torch
from torch.nn import functional as F

from end_to_end import commit
from vivavoz.bench.machine import cpu_name
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import LABELS, MAX_FRAMES, Clip, ClipInfo
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import ShardWindows, WindowBatch, WindowConfig, window_loader
from vivavoz.presets import lite
from vivavoz.train.clips import pictures
from vivavoz.vae.vae import VAE


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast shards are written and read.")
    parser.add_argument("corpus", nargs="?", help="folder or URL of a corpus (default: clips made for the purpose)")
    parser.add_argument("--clips", type=int, default=4, help="clips of 10 s to make")
    parser.add_argument("--batch", type=int, default=4, help="windows in a batch")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 5, 17], help="frames in a window, 1 + 4n")
    parser.add_argument("--steps", type=int, default=20, help="batches to measure, after one to warm up")
    parser.add_argument("--train-frames", type=int, default=5, help="frames in a window to train on")
    parser.add_argument("--threads", type=int, default=1, help="threads that train")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode beside the training")
    options = parser.parse_args()
    figures = {"commit": commit(), "machine": f"{cpu_name()}, {os.cpu_count()} CPUs", "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus
        if corpus is None:
            corpus = folder
            figures["writing"] = write(folder, options.clips)
        figures["reading"] = [read(corpus, options, frames, size_px) for size_px in (256, 512) for frames in options.frames]
        figures["feeding"] = feed(corpus, options)
    print(json.dumps(figures, indent=1))
    print_tables(figures, options)


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


def read(corpus: str, options: argparse.Namespace, num_frames: int, size_px: int) -> dict[str, float]:
    """One process: batches, after one to warm up."""
    config = WindowConfig(batch_size=options.batch, num_frames=num_frames, size_px=size_px)
    windows = ShardWindows(corpus, config)
    windows[0]
    started_s = time.process_time()
    num_references = sum(windows[index].references.shape[1] * options.batch for index in range(1, 1 + options.steps))
    spent_s = time.process_time() - started_s
    return {
        "frames": num_frames,
        "size_px": size_px,
        "clips_per_core_s": round(options.steps * options.batch / spent_s, 1),
        "core_s_per_batch": round(spent_s / options.steps, 4),
        "references_per_clip": round(num_references / options.steps / options.batch, 2),
    }


def feed(corpus: str, options: argparse.Namespace) -> dict[str, float]:
    """Steps of training fed by workers: how long they take, and how long they wait for their data, after the first two."""
    torch.set_num_threads(options.threads)
    preset = lite()
    vae = VAE(preset.vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-4)
    windows = ShardWindows(corpus, WindowConfig(batch_size=options.batch, num_frames=options.train_frames))
    batches = iter(window_loader(windows, num_workers=options.workers))
    waited_s, trained_s = [], []
    for _ in range(2 + options.steps):
        started_s = time.perf_counter()
        batch = next(batches)
        waited_s.append(time.perf_counter() - started_s)
        train(vae, optimizer, batch, preset.working_size)
        trained_s.append(time.perf_counter() - started_s - waited_s[-1])
    spent_s = sum(waited_s[2:]) + sum(trained_s[2:])
    return {
        "frames": options.train_frames,
        "windows_per_s": round(options.steps * options.batch / spent_s, 2),
        "step_s_p50": round(float(np.median(trained_s[2:])), 3),
        "waited_s_p50": round(float(np.median(waited_s[2:])), 5),
        "waited_s_max": round(max(waited_s[2:]), 5),
        "waited_share": round(sum(waited_s[2:]) / spent_s, 4),
    }


def train(vae: VAE, optimizer: torch.optim.Optimizer, batch: WindowBatch, side: int) -> None:
    """One step of equation 2 without its perceptual term, at the size the VAE works in."""

    def resized(images: torch.Tensor) -> torch.Tensor:
        small = F.interpolate(pictures(images).flatten(0, 1), (side, side), mode="area")
        return small.unflatten(0, images.shape[:2])

    frames = resized(batch.frames).transpose(1, 2)
    posterior = vae.encode(frames)
    video = vae.decode(posterior.sample(), vae.encode_references(resized(batch.references)))
    ((video - frames).abs().mean() + 1e-4 * posterior.kl()).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


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


def print_tables(figures: dict, options: argparse.Namespace) -> None:
    if "writing" in figures:
        writing = figures["writing"]
        print(f"\nwriting: {writing['frames_per_core_s']} frames/s per core, both sizes; {writing['mb_per_minute']} MB a minute")
    print(f"\n| batches of {options.batch} windows | references each | clips/s per core | frames/s per core | core s per batch |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in figures["reading"]:
        clips_s, per_clip = row["clips_per_core_s"], row["frames"] + row["references_per_clip"]
        name = f"{row['frames']} frames, {row['size_px']} px"
        print(f"| {name} | {row['references_per_clip']} | {clips_s} | {clips_s * per_clip:.0f} | {row['core_s_per_batch']} |")
    fed = figures["feeding"]
    wait_ms, longest_ms = 1000 * fed["waited_s_p50"], 1000 * fed["waited_s_max"]
    print(f"\ntraining `lite`'s VAE, windows of {fed['frames']} frames, threads: {options.threads}, workers: {options.workers}:")
    print(f"{fed['windows_per_s']} windows a second; a step takes {fed['step_s_p50']} s and waits {wait_ms:.1f} ms for its data")
    print(f"(at most {longest_ms:.1f} ms, {100 * fed['waited_share']:.2f} % of the time)")


if __name__ == "__main__":
    main()
