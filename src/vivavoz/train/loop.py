"""The one training loop: steps, schedule, clipping, running averages, logs, checkpoints, resuming; for every objective.

A run is a function of its config, its seed and the number of the step: the data, the random draws and the learning rate of a step
depend on nothing else. So a run that was killed goes on as if it had not been, bit for bit on a CPU; where a run's length is
told in seconds rather than in steps, its learning rate follows the clock, and only its draws and data are the same.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vivavoz.errors import ConfigError, TrainingError
from vivavoz.train.average import Average
from vivavoz.train.checkpoint import Progress, load_checkpoint, read_progress, save_checkpoint
from vivavoz.train.distributed import ALONE, Parallel
from vivavoz.train.logs import RunLog
from vivavoz.train.sheets import Sheet

B = TypeVar("B")

MAX_SKIPPED_STEPS = 50
"""So many steps in a row without a finite gradient end a run."""
SHOW_EVERY_STEPS = 250
"""How often a run shows pictures of what it can do, if it is not said otherwise."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run is, and its random numbers."""

    index: int
    """From 0."""
    share: float
    """Of the run that lies behind, in [0, 1]."""
    rng: torch.Generator
    """On the CPU, of this step and this batch of it alone."""


class Objective(nn.Module, Generic[B]):
    """What is trained, as submodules, and how wrong it is: the gradient of the sum of `forward`'s losses is followed.

    Submodules that are only needed in training (a probe, a head) are saved with the rest and left behind at the end.
    """

    def forward(self, batch: B, step: Step) -> dict[str, Tensor]:
        """Losses (scalars, weighted) by name."""
        raise NotImplementedError

    def show(self, batch: B) -> dict[str, Sheet]:
        """Contact sheets by name, for TensorBoard. Called without gradients, in `eval` mode; takes nothing from global chance."""
        return {}


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast something learns: `num_steps`, or else as many steps as `budget_s` seconds of training give."""

    num_steps: int = 0
    budget_s: float = 0.0
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_rate: float = 0.02
    """Share of the learning rate left at the end of the cosine; 1: constant after the warm-up."""
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = 1.0
    """Largest norm of all gradients together."""
    accumulate_steps: int = 1
    """Batches of a process that make one step together: n of them on one process do what one does on each of n processes."""
    ema_decay: float = 0.0
    """Of the running average of the weights; 0: none is kept."""
    bf16: bool = False
    """Compute in bfloat16 where autocast deems it safe."""
    log_every_steps: int = 20
    save_every_s: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.num_steps > 0) == (self.budget_s > 0):
            raise ConfigError(f"got num_steps {self.num_steps} and budget_s {self.budget_s}, expected one of them above 0")
        if self.accumulate_steps < 1:
            raise ConfigError(f"accumulate_steps is {self.accumulate_steps}, expected at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}, expected 0 (none) to below 1: 0.999 is usual")

    def share(self, progress: Progress) -> float:
        """Of the run that lies behind, in [0, 1]."""
        return min(1.0, progress.step / self.num_steps if self.num_steps else progress.seconds / self.budget_s)

    def rate(self, progress: Progress) -> float:
        """The learning rate of the next step: a linear warm-up, and half a cosine over the whole run."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.share(progress)))
        warmup = min(1.0, (progress.step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warmup * (self.final_rate + (1 - self.final_rate) * cosine)


def is_done(folder: Path, config: LoopConfig) -> bool:
    """Whether the run in a folder has reached its length. Raises as `read_progress` does."""
    return config.share(read_progress(folder)) >= 1


def train(
    objective: Objective[B],
    batches: Callable[[int], Iterable[B]],
    config: LoopConfig,
    folder: Path,
    *,
    parallel: Parallel = ALONE,
    report: Callable[[dict[str, float]], None] | None = None,
    show_every_steps: int = SHOW_EVERY_STEPS,
) -> Progress:
    """Train until the run's length is reached; goes on from the newest checkpoint in `folder`.

    Args:
        objective: what learns; parameters that need no gradient stay as they are.
        batches: called with the number of a step, gives the batches of that step and all later ones, always the same;
            `accumulate_steps` of them are a step.
        config: length, schedule and precision.
        folder: gets `checkpoint-*`, `log.jsonl` (a line every `log_every_steps`) and TensorBoard's event files.
        parallel: the processes that share the work; see `vivavoz.train.distributed`.
        report: handed every line of the log as it is written: `step`, `seconds`, and means since the last.
        show_every_steps: how often TensorBoard gets what `objective.show` makes of the step's last batch; the last step of all
            is shown too.

    Raises:
        DataError: the folder holds something that is not a checkpoint of this run.
        TrainingError: the data ended early, or nothing but NaN comes any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = parallel.wrap(objective)
    learning = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    average = Average(objective, config.ema_decay) if config.ema_decay else None
    progress = load_checkpoint(folder, objective, optimizer, average)
    saved_s, num_skipped = progress.seconds, 0
    num_batches = config.accumulate_steps * parallel.world_size
    if parallel.is_first and progress.num_batches not in (0, num_batches):
        logging.getLogger("vivavoz").warning(
            f"vivavoz: {folder}: from step {progress.step} on a step is divided into {num_batches} batches (processes times "
            f"accumulated ones), {progress.num_batches} before: the run goes on, with other draws than it would have had"
        )
    sums: dict[str, list[float]] = defaultdict(list)
    device = learning[0].device
    objective.train()
    with RunLog(folder, first_step=progress.step, writes=parallel.is_first, report=report) as log:
        stream = iter(batches(progress.step))
        while config.share(progress) < 1:
            begin_s, rate = time.monotonic(), config.rate(progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sizes: dict[str, float] = defaultdict(float)
            for part in range(config.accumulate_steps):
                step = Step(progress.step, config.share(progress), _draws(config, progress.step, part, parallel))
                try:
                    batch = next(stream)
                except StopIteration:
                    raise TrainingError(f"the data ended at step {progress.step}; expected batches without end") from None
                with parallel.gathering(model, is_last=part == config.accumulate_steps - 1):
                    with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                        losses = model(batch, step)
                    if not losses:
                        raise TrainingError(
                            f"step {progress.step} had nothing to learn from: give clips references, or pixels a weight"
                        )
                    (torch.stack(list(losses.values())).sum() / config.accumulate_steps).backward()
                for name, loss in losses.items():
                    sizes[name] += float(loss.detach()) / config.accumulate_steps
            norm = parallel.clip(learning, config.gradient_clip)
            if math.isfinite(norm):
                optimizer.step()
                if average is not None:
                    average.update()
                num_skipped = 0
            else:
                num_skipped += 1
            optimizer.zero_grad(set_to_none=True)
            for name, value in sizes.items():
                if math.isfinite(value):
                    sums[name].append(value)
            sums["norm" if math.isfinite(norm) else "skipped"].append(norm if math.isfinite(norm) else 1.0)
            # All processes go by the first one's clock: they must stop, log and save at the same step.
            spent_s = parallel.agree(time.monotonic() - begin_s)
            progress = Progress(progress.step + 1, progress.seconds + spent_s, num_batches)
            if progress.step % config.log_every_steps == 0:
                log.write(progress, parallel.mean(_means(sums)), rate=rate)
                sums.clear()
            if log.has_board and (progress.step % show_every_steps == 0 or config.share(progress) >= 1):
                log.show(progress, _shown(objective, batch, config, parallel, device))
            if num_skipped >= MAX_SKIPPED_STEPS:
                raise TrainingError(
                    f"the gradient has not been finite for {num_skipped} steps (up to step {progress.step}); go on from the last "
                    "checkpoint with a lower learning rate"
                )
            if progress.seconds - saved_s > config.save_every_s:
                saved_s = progress.seconds
                save_checkpoint(folder, progress, objective, optimizer, average)
    save_checkpoint(folder, progress, objective, optimizer, average)
    objective.eval()
    return progress


def _shown(objective: Objective[B], batch: B, config: LoopConfig, parallel: Parallel, device: torch.device) -> dict[str, Sheet]:
    """What the objective shows. All processes call it together: with FSDP2 each holds a part of the weights."""
    objective.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
        sheets = objective.show(batch)
    parallel.reshard(objective)
    objective.train()
    return sheets


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    """What a line of the log says of the steps since the last; `skipped` is counted."""
    return {name: sum(found) if name == "skipped" else sum(found) / len(found) for name, found in values.items()}


def _draws(config: LoopConfig, step: int, part: int, parallel: Parallel) -> torch.Generator:
    """Random numbers of one batch of one step. Batches are counted as `window_loader` deals them out to the processes."""
    entropy = [config.seed, step, part * parallel.world_size + parallel.rank]
    return torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))
