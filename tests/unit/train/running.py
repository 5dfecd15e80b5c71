"""A small objective whose every step is known, run in this process or by torchrun."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vivavoz.train.distributed import parallel_processes
from vivavoz.train.loop import LoopConfig, Objective, Step, train
from vivavoz.train.sheets import Sheet, tracks


class Fit(Objective[tuple[Tensor, Tensor]]):
    """Two blocks that learn a sum, and a frozen layer in front."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Linear(4, 8).requires_grad_(False)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.out = nn.Linear(8, 1)
        self.noise = noise

    def forward(self, batch: tuple[Tensor, Tensor], step: Step) -> dict[str, Tensor]:
        x, y = batch
        hidden = self._hidden(x + self.noise * torch.randn(x.shape, generator=step.rng))
        return {"error": (self.out(hidden).squeeze(1) - y).square().mean(), "size": 1e-3 * hidden.square().mean()}

    def _hidden(self, x: Tensor) -> Tensor:
        hidden = self.front(x)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return hidden

    def show(self, batch: tuple[Tensor, Tensor]) -> dict[str, Sheet]:
        x, y = batch
        return {"true_found": tracks(y[None], self.out(self._hidden(x)).T)}


def batches(first_step: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Eight rows a step, shared by the processes."""
    step = first_step
    while True:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        yield x[rank::world_size], (x[:, 0] + torch.sin(x[:, 1]))[rank::world_size]
        step += 1


def main() -> None:
    """`running.py FOLDER KIND STEPS`: train, and save at every step."""
    folder, kind, steps = sys.argv[1:]
    config = LoopConfig(
        num_steps=int(steps), learning_rate=0.01, warmup_steps=3, log_every_steps=1, save_every_s=1e-9, ema_decay=0.9
    )
    with parallel_processes(kind) as parallel:
        train(
            Fit(),
            lambda first: batches(first, parallel.rank, parallel.world_size),
            config,
            Path(folder),
            parallel=parallel,
            report=lambda line: print(json.dumps(line), flush=True),
            show_every_steps=2,
        )


if __name__ == "__main__":
    main()
