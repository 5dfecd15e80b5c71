"""How the steps of a block are run: as they stand, with a CPU's shortcuts, by OpenVINO, compiled, or as CUDA graphs.

`B C k H W` latent blocks, `B T H W 3` pictures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vivavoz.engine.cpu_compose import compose_in_8_bits, photos_in_8_bits
from vivavoz.engine.runtime_names import RUNTIME_NAMES as RUNTIME_NAMES
from vivavoz.engine.runtime_names import RuntimeName as RuntimeName
from vivavoz.errors import ConfigError
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import CacheRead, GeneratorState
from vivavoz.generator.transformer import Modulations
from vivavoz.presets import SamplingConfig
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.vae import VAE, DecoderState, References
from vivavoz.vae.warp import compose

if TYPE_CHECKING:
    from vivavoz.engine.model import Model

VelocityStep = Callable[[Tensor, Tensor, Tensor | Modulations, GeneratorState], Tensor]
GuidanceStep = Callable[[Tensor, Tensor, Tensor | Modulations, GeneratorState], tuple[Tensor, Tensor, Tensor]]
WriteStep = Callable[[Tensor, GeneratorState, Modulations], None]
DenoiseStep = Callable[[Tensor, Tensor, Tensor, GeneratorState, SamplingConfig, tuple[Modulations, ...]], Tensor]
DecodeStep = Callable[[Tensor, References, DecoderState], Iterable[Tensor]]
"""Latents to pictures (B, T, H, W, 3) uint8, in their order, each part as soon as it is made. Parts may be empty (T = 0): so
often may those who can leave off do so."""

_BENT_AT_ONCE = 2
"""Pictures, on a CPU."""
_WANTED_SOON = (1, 1, 2)
"""Pictures of a latent whose fields are made together where the first are wanted soon: all four together cost a third less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """The steps that a stream repeats for every block. All of them work on the state they are given, and on nothing else."""

    name: RuntimeName
    cache_read: CacheRead
    """How caches are to be read: fixed shapes for compiled steps, less work for others."""
    velocity: VelocityStep
    """`Generator.velocity`."""
    guidance_velocities: GuidanceStep
    """`Generator.guidance_velocities`."""
    write_context: WriteStep
    """`Generator.write_context`."""
    decode_first: DecodeStep
    """`decode_pictures` of a video's first block, whose first latent is one picture."""
    batch_size: Callable[[int], int]
    """Of so many rows, how many to run as one batch, at least 1."""
    decode: DecodeStep
    """`decode_pictures` of every later block, and of the first one's other latents where `decode_latents` divides it."""
    decode_soon: DecodeStep | None = None
    """`decode` of a block of which the first pictures are wanted sooner than all together cheaply; None: `decode`."""
    decode_latents: int | None = None
    """Latents that are decoded at once; None: those of a block."""
    can_leave_off: bool = False
    """Whether decoding may end between the parts that a step yields; the rest of a latent's pictures is then made by nobody."""
    denoise: DenoiseStep | None = None
    """`engine.denoise.denoise` as one step, where a runtime has more to offer than its velocities one by one."""


def make_runtime(model: Model, name: RuntimeName) -> Runtime:
    """The runtime called `name` for `model`; `auto` is the one of `fastest_runtime`.

    Raises `ConfigError` for another name, and for one that does not go with the machine or the model.
    """
    if name not in RUNTIME_NAMES:
        raise ConfigError(f"unknown runtime {name!r}; expected one of {', '.join(RUNTIME_NAMES)}")
    if name == "auto":
        name, _ = fastest_runtime(model.device, model.preset.vae)
    if name == "cpu":
        return cpu_runtime(model)
    if name in ("openvino", "openvino-int8"):
        from vivavoz.engine.openvino_runtime import openvino_runtime

        return openvino_runtime(model, int8=name == "openvino-int8")
    if name.startswith("cuda-graphs"):
        from vivavoz.engine.cuda_graphs import cuda_graphs_runtime

        return cuda_graphs_runtime(model, is_compiled=name == "cuda-graphs-compiled", float8=name == "cuda-graphs-fp8")
    return compiled_runtime(model) if name == "compiled" else eager_runtime(model)


def fastest_runtime(device: torch.device, vae: VAEConfig) -> tuple[RuntimeName, str]:
    """The fastest runtime that starts at once, and why it is that. Compiling takes minutes, so it is left to those who ask."""
    if device.type == "cpu" and vae.warp is not None:
        return "cpu", "of what starts at once; OpenCV bends photographs in 8 bits (openvino first has to convert the decoder)"
    if device.type == "cpu":
        return "eager", "the shortcuts for CPUs are the reference warp's, and this preset paints"
    return "eager", "the others take seconds to minutes to start, and have not been measured on a GPU yet"


def obstacles(device: torch.device, vae: VAEConfig) -> dict[RuntimeName, str | None]:
    """Every runtime but `auto`, and what keeps it from running a preset with `vae` on `device`; None: nothing does."""
    from vivavoz.engine.cuda_graphs import lacks_float8
    from vivavoz.engine.openvino_runtime import lacks

    on_cpu, on_cuda = device.type == "cpu", device.type == "cuda"
    needs_cpu = None if on_cpu else "for CPUs"
    needs_cuda = None if on_cuda else "needs a CUDA device"
    needs_compiler = None if has_compiler() else "no C++ compiler found"
    paints = None if vae.warp is not None else "for presets with a reference warp"
    remembers = None if vae.sees_single_pictures else "for presets whose decoder sees single pictures"
    return {
        "eager": None,
        "cpu": needs_cpu or paints,
        "openvino": needs_cpu or remembers or lacks(int8=False),
        "openvino-int8": needs_cpu or remembers or lacks(int8=True),
        "compiled": needs_compiler,
        "cuda-graphs": needs_cuda,
        "cuda-graphs-compiled": needs_cuda or needs_compiler,
        "cuda-graphs-fp8": needs_cuda or needs_compiler or lacks_float8(),
    }


def eager_runtime(model: Model, generator: Generator | None = None) -> Runtime:
    """Every step as it stands, with another `generator` than the model's if one is given."""
    generator, decode = generator or model.generator, _decoder(model.vae)
    return Runtime(
        name="eager",
        cache_read=CacheRead.FILLED,
        velocity=generator.velocity,
        guidance_velocities=generator.guidance_velocities,
        write_context=generator.write_context,
        decode_first=decode,
        decode=decode,
        # Together, rows are no faster on a CPU (docs/performance.md), and apart, they are equal to a lone stream's to the bit.
        batch_size=lambda num_rows: 1 if model.device.type == "cpu" else num_rows,
    )


def cpu_runtime(model: Model) -> Runtime:
    """Eager, but for the reference warp's last step, which works on 8 bits: PSNR to eager's pictures is 40 dB or more.

    Raises `ConfigError` for a model that is elsewhere or has no reference warp.
    """
    if model.device.type != "cpu" or model.preset.vae.warp is None:
        raise ConfigError(
            f"the cpu runtime is for models with a reference warp on a CPU; the preset {model.preset.name} on "
            f"{model.device.type} is not one: use auto"
        )

    vae = model.vae
    sees_single = vae.config.sees_single_pictures

    def decode(z: Tensor, references: References, state: DecoderState, *, soon: bool = False) -> Iterator[Tensor]:
        assert references.photos is not None, "a stream has a portrait at least"
        photos = photos_in_8_bits(references.photos)
        codes = vae.next_codes(z.to(vae.d1.conv_in.weight.dtype), state)
        for part in codes.split(_WANTED_SOON if soon else codes.shape[2], dim=2):
            for fields in vae.fields_in_steps(part, references, state):
                if fields is None:
                    yield torch.empty(len(part), 0, *photos.shape[2:], dtype=torch.uint8)
                    continue
                for i in range(0, part.shape[2], _BENT_AT_ONCE):
                    yield compose_in_8_bits(fields.float().frames(i, i + _BENT_AT_ONCE), photos)

    return replace(
        eager_runtime(model),
        name="cpu",
        decode_first=decode,
        decode=decode,
        decode_soon=partial(decode, soon=True) if sees_single else None,
        decode_latents=1,  # features of a latent stay in the cache, those of a block do not
        can_leave_off=sees_single,
    )


def compiled_runtime(model: Model) -> Runtime:
    """Every steady-state step compiled whole; the first block of each size takes a minute or so.

    Raises `ConfigError` where there is no C++ compiler to compile with.
    """
    if not has_compiler():
        raise ConfigError(
            "the compiled runtime found no C++ compiler; install one (g++), name it in CXX, or use the eager runtime"
        )
    return replace(
        compiled_steps(eager_runtime(model)),
        name="compiled",
        cache_read=CacheRead.MASKED,
        # Every size is compiled anew: powers of two keep them few.
        batch_size=lambda num_rows: 1 if model.device.type == "cpu" else 1 << num_rows.bit_length() - 1,
    )


def compiled_steps(steps: Runtime) -> Runtime:
    """`steps` with those of the steady state compiled when they are first run."""
    return replace(
        steps,
        velocity=torch.compile(steps.velocity, fullgraph=True, dynamic=False),
        guidance_velocities=torch.compile(steps.guidance_velocities, fullgraph=True, dynamic=False),
        write_context=torch.compile(steps.write_context, fullgraph=True, dynamic=False),
        decode=torch.compile(steps.decode, fullgraph=True, dynamic=False),
    )


def has_compiler() -> bool:
    """Whether there is a C++ compiler for `torch.compile`."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def decode_pictures(vae: VAE, z: Tensor, references: References, state: DecoderState) -> Tensor:
    """Latents `(B, C, k, H/64, W/64)` to pictures `(B, T, H, W, 3)` uint8; `T` is `4 k`, in a video's first block `4 k - 3`."""
    z = z.to(vae.d1.conv_in.weight.dtype)
    if vae.config.warp is None:
        return _to_pixels(vae.decode(z, references, state))
    # Half precision cannot tell neighbouring pixels apart: the fields are applied in float32.
    fields = vae.warp_fields(z, references, state).float()
    num_frames = fields.mask.shape[2]
    # A picture at a time stays in the CPU's cache: less than half of the time. A compiler fuses the whole instead.
    step = 1 if z.device.type == "cpu" and not torch.compiler.is_compiling() else num_frames
    starts = range(0, num_frames, step)
    parts = [_to_pixels(compose(fields.frames(i, i + step), references.photos, references.size)) for i in starts]
    return torch.cat(parts, dim=1)


def _to_pixels(video: Tensor) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1] -> (B, T, H, W, 3) uint8; may overwrite `video`."""
    levels = video.float().add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 4, 1).contiguous()


def _decoder(vae: VAE) -> DecodeStep:
    def decode(z: Tensor, references: References, state: DecoderState) -> tuple[Tensor]:
        return (decode_pictures(vae, z, references, state),)

    return decode
