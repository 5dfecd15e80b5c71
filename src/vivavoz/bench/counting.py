"""What a block costs at the least, counted on shapes: operations, and bytes that have to move however it is run.

Nothing is run. Operations are those of `vivavoz.engine.accounting`. Bytes are a lower bound: each of the four kinds below, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from vivavoz.engine.accounting import META, Report, describe
from vivavoz.engine.model import Model
from vivavoz.engine.trees import tensors_of
from vivavoz.nn.modulation import Modulation
from vivavoz.presets import Preset
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.vae.fusion import FusionBlock

STAGES = ("audio", "generator", "decoder")
"""In the order of the data. The paper's t_G is the first two, its t_D the last."""
_FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCount:
    """What one block, of all rows together, asks of a stage."""

    stage: str
    """One of `STAGES`."""
    gflop: float
    """1e9 operations of matrix products, convolutions and attention, two for a multiply-add."""
    weight_mb: float
    """Weights: audio encoder and decoder once a block, the generator's blocks once a step and once for the clean pass. Left out
    are its modulations, which depend on flow times only, the same for every block, and what only portraits see."""
    cache_mb: float
    """What a stream keeps. Keys and values behind the fullest window: read at every pass, once per context, and written for the
    block; the decoder's and hearing's states: read and written; D_ref's keys and values, the references' features and
    photographs: read."""
    feature_mb: float
    """Inputs and outputs of linear layers and convolutions, once each (element-wise steps are taken to be done on the way), and
    the pictures as they come out, 8 bits."""

    @property
    def megabytes(self) -> float:
        """All of them, in 1e6 bytes."""
        return self.weight_mb + self.cache_mb + self.feature_mb


def count_block(preset: Preset, *, sessions: int = 1, dtype: torch.dtype = torch.float32) -> tuple[StageCount, ...]:
    """Count a block of `preset.sampling` for `sessions` rows with one portrait each; `dtype` is what the VAE and the generator
    compute in, hearing stays in float32."""
    report = describe(preset)
    with META:
        model = Model(preset).eval()
    sampling, window = preset.sampling, preset.generator.window_latents
    frames = FRAMES_PER_LATENT * sampling.block_latents
    size = dtype.itemsize
    state = {stage: sessions * _sum(report, stage, "state_bytes") / _FLOAT32_BYTES for stage in STAGES}
    passes = sampling.num_steps + 1
    slots = window + preset.lone_references
    """Of a context: latents of the window and the references."""
    read, written = slots - sampling.block_latents, sampling.block_latents
    pictures = sessions * frames * 3 * preset.output_size**2
    bytes_of = {
        "audio": (_FLOAT32_BYTES * report.parameters.audio, _FLOAT32_BYTES * 2 * state["audio"], _FLOAT32_BYTES, 0),
        "generator": (
            size * _generator_weights(model, sampling.num_steps),
            size * state["generator"] * (passes * read + written) / slots,
            size,
            0,
        ),
        "decoder": (
            size * _decoder_weights(report, model),
            size * 2 * state["decoder"] + sessions * _reference_bytes(model, size),
            size,
            pictures,
        ),
    }
    return tuple(
        StageCount(
            stage=stage,
            gflop=sessions * frames * _sum(report, stage, "gflop_per_frame"),
            weight_mb=weights / 1e6,
            cache_mb=caches / 1e6,
            feature_mb=(feature_size * sessions * frames * _sum(report, stage, "features_per_frame") + shown) / 1e6,
        )
        for stage, (weights, caches, feature_size, shown) in bytes_of.items()
    )


def with_sampling(preset: Preset, num_steps: int | None, guidance: float | None, block_latents: int | None) -> Preset:
    """`preset`, sampled in another way: None keeps the preset's own. `guidance` is both scales of equation (I).

    Raises `ConfigError` for values out of range.
    """
    usual = preset.sampling
    return replace(
        preset,
        sampling=replace(
            usual,
            num_steps=usual.num_steps if num_steps is None else num_steps,
            guidance_audio=usual.guidance_audio if guidance is None else guidance,
            guidance_reference=usual.guidance_reference if guidance is None else guidance,
            block_latents=usual.block_latents if block_latents is None else block_latents,
        ),
    )


def _generator_weights(model: Model, num_steps: int) -> int:
    """Weights that a block's passes read: the clean one after the steps has neither conditions nor velocities."""
    generator = model.generator
    blocks = generator.transformer.blocks
    modulations = [part for part in blocks.modules() if isinstance(part, Modulation)]
    every_pass = _num_parameters(blocks, generator.latent_in) - _num_parameters(*modulations)
    return (num_steps + 1) * every_pass + num_steps * _num_parameters(generator.condition_in, generator.transformer.out)


def _decoder_weights(report: Report, model: Model) -> int:
    """Weights of the decoder but for those that only see the portraits."""
    blocks = model.vae.fusion.blocks
    of_portraits = [block.kv for block in blocks if isinstance(block, FusionBlock) and block.has_references]
    once = sum(row.parameters for row in report.stages if row.part == "decoder" and row.name.endswith(", once"))
    return report.parameters.decoder - once - _num_parameters(*of_portraits)


def _num_parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@torch.no_grad()
def _reference_bytes(model: Model, size: int) -> int:
    """What decoding reads of one person; the photographs stay in float32, and the generator has its own copy of latents."""
    preset = model.preset
    sides, count = (preset.working_size, preset.output_size), preset.lone_references
    picture, photo = (torch.empty(1, count, 3, side, side, device=META) for side in sides)
    references = model.vae.encode_references(picture, photo)
    kept = size * sum(tensor.numel() for tensor in tensors_of((references.fusion, references.warp, references.anchor)))
    return kept + (0 if references.photos is None else references.photos.nbytes)


def _sum(report: Report, part: str, column: str) -> float:
    return sum(getattr(row, column) for row in report.stages if row.part == part)
