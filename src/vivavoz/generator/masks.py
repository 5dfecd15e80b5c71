"""Who sees whom in the one-pass teacher forcing sequence [references, clean context, noised latents] (figure 4).

`R` references, `N` latent frames, `F = R + 2 N` latent frames of the sequence, `S` tokens of a latent frame.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from vivavoz.errors import ConfigError


def block_of_latent(num_latents: int, blocks: int | tuple[int, ...]) -> list[int]:
    """Number of the block each latent frame belongs to: equal blocks from the window's start, or blocks of the given sizes.

    The last of equal blocks may be short. Raises `ConfigError` for sizes that do not make up the window.
    """
    if isinstance(blocks, int):
        return [latent // blocks for latent in range(num_latents)]
    if sum(blocks) != num_latents or min(blocks) < 1:
        raise ConfigError(f"got blocks of {blocks} latents, expected sizes that add up to {num_latents}: change the sizes")
    return [block for block, size in enumerate(blocks) for _ in range(size)]


@lru_cache(maxsize=64)
def teacher_forcing_mask(num_references: int, num_latents: int, blocks: int | tuple[int, ...]) -> Tensor:
    """Frame-level mask `(F, F)` bool, `[query, key]`, True = seen; on the CPU, shared: do not write to it.

    References see references; a clean block sees references and clean blocks up to itself; a noised block sees references,
    the clean blocks before it, and itself.
    """
    block = torch.tensor(block_of_latent(num_latents, blocks), device="cpu")
    query, key = block[:, None], block[None, :]
    num_frames = num_references + 2 * num_latents
    mask = torch.zeros(num_frames, num_frames, dtype=torch.bool, device="cpu")
    clean = slice(num_references, num_references + num_latents)
    noised = slice(num_references + num_latents, None)
    mask[:, :num_references] = True
    mask[clean, clean] = key <= query
    mask[noised, clean] = key < query
    mask[noised, noised] = key == query
    return mask


def token_mask(frame_mask: Tensor, reference_mask: Tensor | None, tokens_per_latent: int) -> Tensor:
    """Spread a frame-level mask `(F, F)` over tokens, hiding the references that rows lack.

    `reference_mask` is `(B, R)` bool, True where a row has the reference. Returns `(B or 1, 1, F * S, F * S)`.
    """
    if reference_mask is None:
        mask = frame_mask[None]
    else:
        num_others = frame_mask.shape[1] - reference_mask.shape[1]
        seen = torch.cat([reference_mask, reference_mask.new_ones(reference_mask.shape[0], num_others)], 1)
        mask = frame_mask[None] & seen[:, None, :]
    return mask.repeat_interleave(tokens_per_latent, 1).repeat_interleave(tokens_per_latent, 2)[:, None]
