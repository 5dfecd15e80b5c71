"""Training on several processes, as `torchrun` starts them: DDP copies the model, FSDP2 shards it; nothing here is our own.

One process per GPU, or per share of a CPU. Every process has data and noise of its own; gradients are averaged. With FSDP2 all
processes must call the same blocks in a step.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from vivavoz.errors import ConfigError

ParallelKind = Literal["none", "ddp", "fsdp"]
PARALLEL_KINDS: tuple[ParallelKind, ...] = get_args(ParallelKind)

_FURTHER_ENTRIES = {"remember"}
"""Methods of blocks that are called beside `forward` and need the block's parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel:
    """The processes that train one model."""

    kind: ParallelKind = "none"
    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs and reports."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """What is to be called in place of `module`, whose parameters live on, copied or sharded.

        For FSDP the blocks of every `ModuleList` are shards of their own; what is left over is gathered with the root.
        """
        if self.kind == "ddp":
            return DistributedDataParallel(module, find_unused_parameters=True)
        if self.kind == "fsdp":
            # It warns that blocks give views, which must not be written in place; nothing here does.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            for child in reversed(list(module.modules())):  # the inner ones first, as FSDP asks
                if isinstance(child, nn.ModuleList):
                    for block in child:
                        if any(parameter.requires_grad for parameter in block.parameters()):
                            fully_shard(block)
                            for name in _FURTHER_ENTRIES & set(dir(block)):
                                register_fsdp_forward_method(block, name)
            fully_shard(module)
            register_fsdp_forward_method(module, "show")
        return module

    def reshard(self, module: nn.Module) -> None:
        """After a pass without a backward one, give up the gathered weights, which the next step would take for its own."""
        if self.kind == "fsdp":
            assert isinstance(module, FSDPModule)
            for child in module.modules():
                if isinstance(child, FSDPModule):
                    child.reshard()

    @contextmanager
    def gathering(self, model: nn.Module, *, is_last: bool) -> Iterator[None]:
        """Around a batch of several that make one step: only the last needs to exchange gradients (FSDP2 does so every time)."""
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not is_last else nullcontext():
            yield

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        """Scale gradients so that their norm, over all processes, is at most `norm`; gives what it was."""
        total = nn.utils.clip_grad_norm_(parameters, norm)
        return float(total.full_tensor() if isinstance(total, DTensor) else total)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of every value over the processes; they must have the same names."""
        if self.world_size == 1:
            return values
        gathered: list[dict[str, float] | None] = [None] * self.world_size
        distributed.all_gather_object(gathered, values)
        everywhere = [one for one in gathered if one is not None]
        names = {name for one in everywhere for name in one}
        known = {name: [one[name] for one in everywhere if name in one] for name in sorted(names)}
        return {name: sum(found) / len(found) for name, found in known.items()}

    def agree(self, value: float) -> float:
        """The first process's value, for all."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            box = box.cuda()
        distributed.broadcast(box, src=0)
        return float(box)


ALONE = Parallel()
"""One process."""


@contextmanager
def parallel_processes(kind: ParallelKind) -> Iterator[Parallel]:
    """Join the processes that `torchrun` started; with `none`, or without torchrun, there is one.

    Raises:
        ConfigError: another kind, or `torchrun` started several processes and `kind` is `none`.
    """
    if kind not in PARALLEL_KINDS:
        raise ConfigError(f"unknown way to share a training: {kind!r}; expected one of {', '.join(PARALLEL_KINDS)}")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if kind == "none":
        if world_size > 1:
            raise ConfigError(f"{world_size} processes were started, but nothing shares the work: choose ddp or fsdp")
        yield ALONE
        return
    if "RANK" not in os.environ:
        raise ConfigError(f"{kind} needs the processes that torchrun starts: torchrun --nproc-per-node N -m vivavoz train ...")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Parallel(kind=kind, rank=distributed.get_rank(), world_size=world_size)
    finally:
        distributed.destroy_process_group()
