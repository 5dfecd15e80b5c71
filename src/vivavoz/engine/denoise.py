"""From noise to a latent block: the sampler around the generator, with as many guidance branches as the scales need.

`B C k H W` latent blocks, `B k E` conditions. `flow_time`: 1 noise, 0 data.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vivavoz.engine.runtime import Runtime
from vivavoz.flow.guidance import guide
from vivavoz.flow.sampler import euler
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import GeneratorState
from vivavoz.generator.transformer import Modulations
from vivavoz.presets import SamplingConfig


def needs_no_reference_branch(sampling: SamplingConfig) -> bool:
    """Whether equation (I) gives the branch without references any weight; if not, its context need not be kept."""
    return sampling.guidance_reference != 1


def denoise(
    noise: Tensor,
    conditions: Tensor,
    flow_times: Tensor,
    state: GeneratorState,
    *,
    generator: Generator,
    runtime: Runtime,
    sampling: SamplingConfig,
    modulations: tuple[Modulations, ...] | None = None,
) -> Tensor:
    """Sample the next block, `(B, C, k, H, W)`: Euler steps along `flow_times` from `noise`; `state` is only read.

    `modulations`: `generator.modulations(flow_times)`, if they are there.
    """
    if runtime.denoise is not None:
        known = generator.modulations(flow_times) if modulations is None else modulations
        return runtime.denoise(noise, conditions, flow_times, state, sampling, known)

    def unguided(z: Tensor, time: Tensor | Modulations) -> Tensor:
        return runtime.velocity(z, conditions, time, state)

    without_audio = generator.without_audio(conditions)

    def guided_by_audio(z: Tensor, time: Tensor | Modulations) -> Tensor:
        full = runtime.velocity(z, conditions, time, state)
        no_audio = runtime.velocity(z, without_audio, time, state)
        return guide(full, no_audio, full, audio_scale=sampling.guidance_audio, reference_scale=1)

    def guided(z: Tensor, time: Tensor | Modulations) -> Tensor:
        full, no_audio, no_reference = runtime.guidance_velocities(z, conditions, time, state)
        return guide(
            full,
            no_audio,
            no_reference,
            audio_scale=sampling.guidance_audio,
            reference_scale=sampling.guidance_reference,
        )

    velocity: Callable[[Tensor, Tensor | Modulations], Tensor] = unguided
    if needs_no_reference_branch(sampling):
        velocity = guided
    elif sampling.guidance_audio != 1:
        velocity = guided_by_audio
    times = iter(flow_times if modulations is None else modulations)
    # The sampler asks once at every time, in order.
    return euler(lambda z, _: velocity(z, next(times)), noise, flow_times)
