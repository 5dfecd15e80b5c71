"""A few real optimizer steps of a recipe's VAE (its first phase) and generator, and the share of the arithmetic that is used.

    python benchmarks/training_step.py tiny                  # seconds, on a CPU
    python benchmarks/training_step.py paper --windows 4     # on a GPU of 80 GB

Activations are checkpointed and, on a GPU, blocks are compiled, as the recipe asks; the first steps are left out. What
checkpointing computes twice does not count: model FLOP utilisation. Prints JSON lines.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vivavoz.train.loop import LoopConfig, Step, train
from vivavoz.train.memory import checkpoint_blocks, compile_blocks
from vivavoz.train.memory_plan import latent_step, shapes_only, video_step
from vivavoz.train.paper_recipes import GENERATOR_RECIPES, VAE_RECIPES

DENSE_BF16_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""A second, by a part of the GPU's name."""
PARTS = ("vae", "generator")


def measure(preset: str, part: str, *, windows: int, num_steps: int = 6) -> dict[str, Any]:
    """Train one part of a preset for a few steps; says how long the fastest took, and how many of its weights moved."""
    recipe: Any = (VAE_RECIPES if part == "vae" else GENERATOR_RECIPES)[preset]()
    make, batch = video_step(recipe, recipe.phases[0]) if part == "vae" else latent_step(recipe)
    with shapes_only(), FlopCounterMode(display=False) as counter:
        sum(make()(batch(1), Step(0, 0.0, torch.Generator())).values()).backward()
    flop = windows * counter.get_total_flops()
    on_gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    objective: Any = make()
    if recipe.compiled and on_gpu:
        compile_blocks(objective)
    if recipe.checkpointing:
        checkpoint_blocks(objective)
    objective.to("cuda" if on_gpu else "cpu")
    before = {name: weight.detach().clone() for name, weight in objective.named_parameters()}
    ends: list[float] = []

    def told(line: dict[str, float]) -> None:
        if on_gpu:
            torch.cuda.synchronize()
        ends.append(time.monotonic())

    def batches(first_step: int) -> Iterator[Any]:
        while True:
            yield batch(windows)

    bf16 = (recipe.phases[0].loop if part == "vae" else recipe.loop).bf16
    loop = LoopConfig(num_steps=num_steps, learning_rate=1e-4, warmup_steps=1, bf16=bf16, log_every_steps=1, save_every_s=1e9)
    with tempfile.TemporaryDirectory() as folder:
        train(objective, batches, loop, Path(folder), report=told, show_every_steps=num_steps + 1)
    seconds = min(later - earlier for earlier, later in pairwise(ends))
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    peak = next((flops for name, flops in DENSE_BF16_FLOPS.items() if name in device), None)
    return {
        "preset": preset,
        "part": part,
        "device": device,
        "parameters": sum(weight.numel() for weight in before.values()),
        "moved": sum(not torch.equal(weight, before[name]) for name, weight in objective.named_parameters()),
        "windows": windows,
        "tflop": flop / 1e12,
        "seconds": seconds,
        "tflops": flop / seconds / 1e12,
        "utilisation": flop / seconds / peak if peak else None,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="tiny", choices=sorted(VAE_RECIPES))
    parser.add_argument("--windows", type=int, default=4, metavar="N", help="of a step (default: 4)")
    options = parser.parse_args()
    for part in PARTS:
        print(json.dumps(measure(options.preset, part, windows=options.windows)), flush=True)


if __name__ == "__main__":
    main()
