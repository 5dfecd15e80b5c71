"""Speed as the paper counts it (supplement, section on inference): t_G, t_D, and pictures over their sum; and waits.

t_G: audio encoder and generator, all steps and the clean pass of the block before, behind the fullest window. t_D: the decoder,
up to pictures in main memory. Both come from the engine's own steps, as a server runs them. Where they overlap, a block takes the
longer of the two at best. What is said and who says it are noise: speed does not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.audio.alignment import samples_needed
from vivavoz.bench.clock import Spread, clocked, now_s, spread_ms
from vivavoz.bench.machine import peak_memory_mb, reset_peak_memory
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.model import Model
from vivavoz.engine.pool import StreamPool
from vivavoz.engine.stream import Stream
from vivavoz.engine.weights import find_weights, load
from vivavoz.errors import ConfigError, WeightsError
from vivavoz.generator.state import GeneratorState
from vivavoz.presets import PRESETS, SamplingConfig, preset_by_name
from vivavoz.timing import FRAMES_PER_LATENT, SAMPLES_PER_FRAME, frames_of_latents

_LOUDNESS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure, and how often."""

    sampling: SamplingConfig
    sessions: int = 1
    """Conversations at a time: rows of one batch as far as the runtime takes them so, one after another otherwise."""
    warmup: int = 2
    """Blocks, and streams, before those that count."""
    repeats: int = 10
    """Blocks, and streams, that count."""
    overlap: bool = False
    """Whether blocks are also timed with the generator and the decoder side by side."""

    def __post_init__(self) -> None:
        for name, least in (("sessions", 1), ("warmup", 0), ("repeats", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least {least}: raise it")


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How fast one runtime is. A block is that of all sessions."""

    runtime: str
    """Its own name, where it was asked for as `auto`."""
    dtype: str
    """What the VAE and the generator compute in."""
    rows_at_once: int
    """Of the sessions, how many the runtime takes as rows of one batch; the others follow."""
    frames: int
    """Pictures of a block, of all sessions together."""
    fps: float
    """Pictures a second: `frames` over the median of t_G + t_D."""
    block_ms: Spread
    """t_G + t_D."""
    generating_ms: Spread
    """t_G."""
    decoding_ms: Spread
    """t_D."""
    stages_ms: dict[str, Spread]
    """Of every stage of `counting.STAGES`."""
    overlapped_ms: Spread | None
    """A block's time where the next one is generated while this one is decoded; None: not asked for."""
    first_picture_ms: Spread
    """From the sound that completes a lone stream's first block to its first picture."""
    later_picture_ms: Spread
    """The same for a block behind the fullest window; the clean pass of the block before was done while it was heard."""
    session_mb: float
    """What a session keeps of its stream, in 1e6 bytes."""
    peak_memory_mb: float
    """Most memory at a time, in 1e6 bytes: torch's on a CUDA device, the whole process's elsewhere."""


def open_model(name_or_path: str, device: torch.device, dtype: torch.dtype) -> tuple[Model, bool]:
    """The model and whether its weights are random, which they are where a preset ships none. Raises as `load` does."""
    try:
        find_weights(name_or_path)
    except WeightsError:
        if name_or_path not in PRESETS:
            raise
        return Model.initialised(preset_by_name(name_or_path)).to_compute(device, dtype), True
    return load(name_or_path, device=device, dtype=dtype, runtime="eager"), False


def anybody(model: Model) -> Avatar:
    """An avatar made of noise, with as many references as a lone portrait becomes."""
    side, count = model.preset.output_size, model.preset.lone_references
    return model.avatar(list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)), crop="none")


def measure(model: Model, plan: Plan) -> Speed:
    """Measure `model` with the runtime that it has."""
    device = model.device
    avatar = anybody(model)
    reset_peak_memory(device)
    first_ms, later_ms, session_mb = measure_waits(avatar, plan)
    times_s = measure_blocks(avatar, plan)
    overlapped_ms = None
    if plan.overlap:
        overlapped_ms = spread_ms(list(blocks_s(avatar, plan, overlap=True))[1 + plan.warmup :])
    stages = {stage: spread_ms(of_stage) for stage, of_stage in times_s.items()}
    hearing, generating, decoding = (times_s[stage] for stage in ("audio", "generator", "decoder"))
    block_ms = spread_ms([sum(parts) for parts in zip(hearing, generating, decoding, strict=True)])
    frames = plan.sessions * plan.sampling.block_latents * FRAMES_PER_LATENT
    return Speed(
        runtime=model.runtime.name,
        dtype=str(model.dtype).removeprefix("torch."),
        rows_at_once=model.runtime.batch_size(plan.sessions),
        frames=frames,
        fps=round(1000 * frames / block_ms.p50, 2),
        block_ms=block_ms,
        generating_ms=spread_ms([a + b for a, b in zip(hearing, generating, strict=True)]),
        decoding_ms=stages["decoder"],
        stages_ms=stages,
        overlapped_ms=overlapped_ms,
        first_picture_ms=first_ms,
        later_picture_ms=later_ms,
        session_mb=session_mb,
        peak_memory_mb=peak_memory_mb(device),
    )


def measure_blocks(avatar: Avatar, plan: Plan) -> dict[str, list[float]]:
    """Seconds of every stage for blocks behind the fullest window, one after the other, of all sessions."""
    times_s: dict[str, list[float]] = {"audio": [], "generator": [], "decoder": []}
    with clocked(avatar.model) as spent:
        for number, whole_s in enumerate(blocks_s(avatar, plan)):
            if number > plan.warmup:
                times_s["audio"].append(spent["audio"])
                times_s["decoder"].append(spent["decoder"])
                times_s["generator"].append(whole_s - spent["audio"] - spent["decoder"])
            spent.update(audio=0.0, decoder=0.0)
    return times_s


def blocks_s(avatar: Avatar, plan: Plan, *, overlap: bool = False) -> Iterator[float]:
    """Seconds of a video's first block, then behind the fullest window of those that warm up and those that count."""
    model, block = avatar.model, plan.sampling.block_latents
    num_blocks = 1 + plan.warmup + plan.repeats
    sound = noise((num_blocks + 2) * block * FRAMES_PER_LATENT * SAMPLES_PER_FRAME)
    pool = StreamPool(model, max_streams=plan.sessions, overlap=overlap)
    streams = [pool.open(avatar, seed=row, sampling=plan.sampling) for row in range(plan.sessions)]
    for stream in streams:
        stream.push(sound)
    for number in range(num_blocks):
        for stream in streams:
            if number:  # the clean pass comes first, and fills the window as far as it goes
                fill_window_(stream.state.generator, model.preset.generator.window_latents - 2 * block)
        started_s = now_s(model.device)
        num_made = pool.step()
        whole_s = now_s(model.device) - started_s
        assert num_made == len(streams), "all of the sound is there"
        for stream in streams:
            stream.take()
        yield whole_s
    pool.close()


def measure_waits(avatar: Avatar, plan: Plan) -> tuple[Spread, Spread, float]:
    """Waits for the first picture of a stream's first block and of one behind the fullest window, and a stream's memory."""
    model, sampling = avatar.model, plan.sampling
    block = sampling.block_latents
    sound = noise(samples_needed(frames_of_latents(2 * block)))
    first_s, later_s = [], []
    for run in range(plan.warmup + plan.repeats):
        with avatar.stream(
            num_steps=sampling.num_steps,
            guidance_audio=sampling.guidance_audio,
            guidance_reference=sampling.guidance_reference,
            block_latents=block,
        ) as stream:
            waits = waits_s(stream, sound)
            first = next(waits)
            fill_window_(stream.state.generator, model.preset.generator.window_latents - block)
            later = next(waits)
            session_mb = round(stream.state.num_bytes / 1e6, 2)
        if run >= plan.warmup:
            first_s.append(first)
            later_s.append(later)
    return spread_ms(first_s), spread_ms(later_s), session_mb


def waits_s(stream: Stream, sound: NDArray[np.float32]) -> Iterator[float]:
    """Push a picture's sound at a time: of every piece that completes a block, the seconds until the block's first picture, once
    all of its pictures were taken."""
    for start in range(0, len(sound), SAMPLES_PER_FRAME):
        wait_s = None
        started_s = time.perf_counter()
        for _ in stream.push(sound[start : start + SAMPLES_PER_FRAME]):
            if wait_s is None:
                wait_s = time.perf_counter() - started_s
        if wait_s is not None:
            yield wait_s


@torch.inference_mode()
def fill_window_(state: GeneratorState, num_latents: int) -> None:
    """As if so many latents were committed to the window. What the cache holds there is read as it is: any numbers will do."""
    for context in state.contexts():
        context.filled_latents.fill_(num_latents)
        context.started.fill_(True)
    state.window_latents = num_latents


def noise(num_samples: int) -> NDArray[np.float32]:
    """Sound `(N,)` at 16 kHz that says nothing."""
    return (_LOUDNESS * np.random.default_rng(0).standard_normal(num_samples)).astype(np.float32)
