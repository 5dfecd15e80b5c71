"""What a step of a recipe takes of a GPU's memory when FSDP2 shards it, before there is a GPU.

Weights are counted. Activations come from the recipe's own objective, run forward on fake tensors (shapes without content) under
autocast: what autograd keeps for the backward pass, once for one window and once for two, so that what does not grow with the
windows is told from what does. With checkpointing that is the blocks' inputs and what lies between blocks. On the way back these
are given up one after the other; one block at a time is computed again, and as much once more is taken for its gradients. Not
counted: the allocator's waste, the libraries' workspaces, communication buffers, and LPIPS's network; `FREE_SHARE` of the memory
is left for them. GB are 1e9 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vivavoz.audio.alignment import MEL_FRAMES_PER_WINDOW
from vivavoz.audio.encoder import NUM_MEL_BANDS, AudioEncoder
from vivavoz.data.latents.controls import NUM_COLUMNS, to_controls
from vivavoz.data.latents.reading import LatentBatch
from vivavoz.data.shards.reading import WindowBatch
from vivavoz.generator.generator import Generator
from vivavoz.generator.masks import teacher_forcing_mask
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.train.latent_training import LatentObjective
from vivavoz.train.loop import Objective, Step
from vivavoz.train.memory import repeated_blocks
from vivavoz.train.paper_recipes import LatentRecipe, VideoPhase, VideoRecipe
from vivavoz.train.perceptual import Perceptual, gradient_ssim
from vivavoz.train.video_training import VideoObjective
from vivavoz.vae.vae import VAE

GPU_BYTES = 80e9
FREE_SHARE = 0.1
RANKS = (1, 8, 128)

_FLOAT_BYTES, _BF16_BYTES = 4, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """One GPU of `num_ranks`, in bytes."""

    name: str
    num_ranks: int
    windows: int
    """Of a step on this GPU."""
    accumulate_steps: int
    """Smallest number of batches that these must be divided into to fit; 0: not even single windows do."""
    parameters: float
    gradients: float
    optimizer: float
    average: float
    gathered: float
    """Whole weights of the blocks at work, the outermost module's, and a block's gradients; 0 on one GPU."""
    casts: float
    """Copies of weights in bfloat16."""
    activations: float
    """Of `windows / accumulate_steps` windows."""

    @property
    def total(self) -> float:
        """All of it."""
        parts = (self.parameters, self.gradients, self.optimizer, self.average, self.gathered, self.casts, self.activations)
        return sum(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Activations:
    """Bytes that a forward pass keeps for its backward pass."""

    between: float
    """Outside of blocks, and the blocks' inputs."""
    blocks: tuple[tuple[float, float], ...]
    """For every call of a block: what is kept between blocks up to there, and what it keeps within."""

    def peak(self, *, checkpointing: bool) -> float:
        """The most there is at a time. On the way back, what lies behind a block is gone when its inside is computed again."""
        if not checkpointing:
            return self.between + sum(within for _, within in self.blocks)
        return max([self.between, *(before + 2 * within for before, within in self.blocks)])


def plan_video(recipe: VideoRecipe, ranks: tuple[int, ...] = RANKS) -> list[StepMemory]:
    """Every phase on every number of GPUs."""
    rows = []
    for phase in recipe.phases:
        objective, batch = video_step(recipe, phase)
        name = f"VAE, {phase.num_frames} frames at {phase.size_px} px"
        rows += _plan(name, objective, batch, phase.batch_size, recipe, phase.loop.ema_decay > 0, phase.loop.bf16, ranks)
    return rows


def plan_latents(recipe: LatentRecipe, ranks: tuple[int, ...] = RANKS) -> list[StepMemory]:
    """The generator on every number of GPUs."""
    objective, batch = latent_step(recipe)
    name = f"generator, {recipe.num_latents} latents"
    return _plan(name, objective, batch, recipe.batch_size, recipe, recipe.loop.ema_decay > 0, recipe.loop.bf16, ranks)


def video_step(
    recipe: VideoRecipe, phase: VideoPhase
) -> tuple[Callable[[], Objective[WindowBatch]], Callable[[int], WindowBatch]]:
    """A phase's objective, and batches of any number of clips, with as many references as there ever are."""
    num_references, side = len(recipe.reference_odds) - 1, phase.size_px
    perceptual = Perceptual("gradient_ssim", "", gradient_ssim)

    def batch(rows: int) -> WindowBatch:
        return WindowBatch(
            frames=torch.zeros(rows, phase.num_frames, side, side, 3, dtype=torch.uint8),
            references=torch.zeros(rows, num_references, side, side, 3, dtype=torch.uint8),
            samples=torch.zeros(rows, 0),
            landmarks=None,
            reference_landmarks=None,
            labels=None,
            keys=("",) * rows,
            first_frames=(0,) * rows,
            reference_keys=((),) * rows,
        )

    return lambda: VideoObjective(VAE(recipe.preset.vae), recipe.training, perceptual, size_px=side), batch


def latent_step(recipe: LatentRecipe) -> tuple[Callable[[], Objective[LatentBatch]], Callable[[int], LatentBatch]]:
    """The generator's objective, and batches of any number of windows, with as many references as there ever are."""
    config = recipe.preset.generator
    side = recipe.preset.working_size // recipe.preset.vae.spatial_factor

    def batch(rows: int) -> LatentBatch:
        num_frames = FRAMES_PER_LATENT * recipe.num_latents
        return LatentBatch(
            latents=torch.zeros(rows, config.latent_channels, recipe.num_latents, side, side),
            references=torch.zeros(rows, config.latent_channels, config.max_references, side, side),
            mel_windows=torch.zeros(rows, num_frames, MEL_FRAMES_PER_WINDOW, NUM_MEL_BANDS),
            controls=to_controls([torch.zeros(recipe.num_latents, NUM_COLUMNS)] * rows),
            starts_video=False,
            keys=("",) * rows,
            first_latents=(0,) * rows,
        )

    return lambda: LatentObjective(Generator(config), AudioEncoder(recipe.preset.audio), recipe.training), batch


@contextmanager
def shapes_only() -> Iterator[None]:
    """Tensors made within have shapes and no content; none of them stays behind in the masks' cache."""
    teacher_forcing_mask.cache_clear()
    try:
        with FakeTensorMode():
            yield
    finally:
        teacher_forcing_mask.cache_clear()


def measure_activations(objective: nn.Module, batch: object, *, bf16: bool) -> Activations:
    """Run `objective` forward and add up what autograd keeps: on real tensors, or on fake ones within their mode."""
    known = {parameter.untyped_storage()._cdata for parameter in objective.parameters()}
    between: dict[int, Tensor] = {}
    blocks: list[tuple[float, dict[int, Tensor]]] = []
    is_within = False

    def keep(x: Tensor) -> Tensor:
        place = x.untyped_storage()._cdata
        if place not in known and place not in between:
            (blocks[-1][1] if is_within else between)[place] = x
        return x

    def enter(_: nn.Module, inputs: tuple[object, ...]) -> None:
        nonlocal is_within
        is_within = True
        between.update({x.untyped_storage()._cdata: x for x in inputs if isinstance(x, Tensor)})
        blocks.append((_num_bytes(between), {}))

    def leave(*_: object) -> None:
        nonlocal is_within
        is_within = False

    handles = [block.register_forward_pre_hook(enter) for block in repeated_blocks(objective)]
    handles += [block.register_forward_hook(leave) for block in repeated_blocks(objective)]
    step = Step(0, 0.0, torch.Generator())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses = objective(batch, step)
    for handle in handles:
        handle.remove()
    del losses
    return Activations(between=_num_bytes(between), blocks=tuple((before, _num_bytes(within)) for before, within in blocks))


def render_plan(rows: list[StepMemory]) -> Table:
    """A table to print with rich."""
    table = Table(
        title=f"memory of a training step with FSDP2, GB per GPU of {GPU_BYTES / 1e9:.0f}",
        caption="activations: what autograd keeps of the recipe's own step, run on shapes alone, checkpointed as the recipe "
        f"says; {FREE_SHARE:.0%} is left free for what is not counted",
        box=box.SIMPLE,
    )
    table.add_column("step")
    columns = ("GPUs", "windows", "batches", "weights", "grad.", "Adam", "EMA", "gathered", "bf16", "activ.", "total")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        parts = (row.parameters, row.gradients, row.optimizer, row.average, row.gathered, row.casts, row.activations, row.total)
        batches = str(row.accumulate_steps or "none fits")
        sizes = [f"{part / 1e9:.1f}" for part in parts]
        table.add_row(row.name, str(row.num_ranks), str(row.windows), batches, *sizes, end_section=row.num_ranks == RANKS[-1])
    return table


def _plan(
    name: str,
    make: Callable[[], Objective[Any]],
    batch: Callable[[int], Any],
    batch_size: int,
    recipe: VideoRecipe | LatentRecipe,
    averaged: bool,
    bf16: bool,
    ranks: tuple[int, ...],
) -> list[StepMemory]:
    with shapes_only():
        objective = make()
        one, two = (
            measure_activations(objective, batch(rows), bf16=bf16).peak(checkpointing=recipe.checkpointing) for rows in (1, 2)
        )
    sizes = [parameter.numel() for parameter in objective.parameters() if parameter.requires_grad]
    count = sum(sizes)
    groups = list(_groups(objective))
    per_window = two - one
    rows = []
    for num_ranks in ranks:
        windows = max(1, batch_size // num_ranks)
        shard = _FLOAT_BYTES * count / num_ranks
        fixed = StepMemory(
            name=name,
            num_ranks=num_ranks,
            windows=windows,
            accumulate_steps=0,
            parameters=shard,
            gradients=shard,
            optimizer=2 * shard,
            average=shard * averaged,
            gathered=_FLOAT_BYTES * (groups[-1] + 3 * max(groups)) if num_ranks > 1 else 0.0,
            casts=float(_BF16_BYTES * count) if bf16 else 0.0,
            activations=0.0,
        )
        room = GPU_BYTES * (1 - FREE_SHARE) - fixed.total
        fitting = [n for n in range(1, windows + 1) if windows % n == 0 and per_window * (windows // n) <= room]
        accumulate = min(fitting, default=0)
        activations = per_window * (windows // accumulate if accumulate else 1)
        rows.append(replace(fixed, accumulate_steps=accumulate, activations=activations))
    return rows


def _num_bytes(tensors: dict[int, Tensor]) -> float:
    return float(sum(x.untyped_storage().nbytes() for x in tensors.values()))


def _groups(module: nn.Module) -> Iterator[int]:
    """Parameters of every group that FSDP2 gathers at a time, as `Parallel.wrap` makes them; the outermost comes last."""
    taken: set[int] = set()
    lists = [child for child in reversed(list(module.modules())) if isinstance(child, nn.ModuleList)]
    for group in [*(block for child in lists for block in child), module]:
        own = [parameter for parameter in group.parameters() if id(parameter) not in taken]
        taken |= {id(parameter) for parameter in own}
        yield sum(parameter.numel() for parameter in own)
