"""From sound to pictures, a block at a time, for one conversation or for many as rows of one batch (algorithm 2).

`B` rows, `k` latents of a block; `B C k H W` latent blocks, `B T H W 3` pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import torch

from vivavoz.engine.controls import StreamControls
from vivavoz.engine.conversation import Conversation
from vivavoz.engine.denoise import denoise
from vivavoz.engine.model import Model
from vivavoz.engine.runtime import Runtime
from vivavoz.flow.noise import gaussian_like
from vivavoz.generator.conditioning import Controls, group_audio
from vivavoz.generator.state import GeneratorState
from vivavoz.nn.stream import join, part_
from vivavoz.vae.vae import References

T = TypeVar("T")


@torch.inference_mode()
def make_blocks(model: Model, runtime: Runtime, conversations: Sequence[Conversation]) -> int:
    """Make the next block of every conversation that has sound enough, and give how many had.

    Conversations share their calls where they are alike: in sampling, in size and number of pictures, and in whether the video
    begins. Where they stand in their windows does not matter.
    """
    # The clean pass of the last blocks comes only now, so that their pictures did not wait for what the next ones need.
    for group in _groups(runtime, [row for row in conversations if row.uncommitted is not None], _past_kind):
        _commit(model, runtime, group)
    _hear(model, runtime, conversations)
    ready = [row for row in conversations if row.has_heard]
    for group in _groups(runtime, ready, lambda row: (row.starts_video, *_kind(row))):
        _make(model, runtime, group)
    return len(ready)


def _kind(row: Conversation) -> tuple[Hashable, ...]:
    return row.sampling, *row.references.form


def _past_kind(row: Conversation) -> tuple[Hashable, ...]:
    return _num_uncommitted(row), *_kind(row)


def _num_uncommitted(row: Conversation) -> int:
    return 0 if row.uncommitted is None else row.uncommitted.shape[2]


def _groups(runtime: Runtime, rows: Sequence[T], kind: Callable[[T], Hashable]) -> Iterator[list[T]]:
    """Rows that can be one batch: alike, and as many as the runtime takes at once."""
    alike: dict[Hashable, list[T]] = {}
    for row in rows:
        alike.setdefault(kind(row), []).append(row)
    for group in alike.values():
        while group:
            size = runtime.batch_size(len(group))
            yield group[:size]
            group = group[size:]


def _commit(model: Model, runtime: Runtime, rows: Sequence[Conversation]) -> None:
    """Make the last block of every row part of its past."""
    block, next_block = _num_uncommitted(rows[0]), rows[0].sampling.block_latents
    states = [row.state.generator for row in rows]
    for state in states:
        model.generator.make_room(block, state, next_block_latents=next_block)
    batch = GeneratorState.joined(states)
    z = torch.cat([row.uncommitted for row in rows if row.uncommitted is not None])
    runtime.write_context(z, batch, rows[0].modulations[-1])
    batch.part_(states)
    for row in rows:
        row.state.generator.advance_(block)
        row.uncommitted = None


def _hear(model: Model, runtime: Runtime, rows: Sequence[Conversation]) -> None:
    """Encode the sound there is, up to the end of every row's next block."""
    while pieces := [(row, piece) for row in rows if (piece := row.next_sound()) is not None]:
        for group in _groups(runtime, pieces, lambda piece: None):
            windows = [
                model.audio.next_windows(torch.from_numpy(piece)[None].to(model.device), row.state.audio) for row, piece in group
            ]
            features = model.audio.encoder(torch.cat(windows, 1)).split([part.shape[1] for part in windows], 1)
            for (row, _), part in zip(group, features, strict=True):
                row.hear(part)


def _make(model: Model, runtime: Runtime, rows: Sequence[Conversation]) -> None:
    """Denoise the next block of every row, and decode it.

    Every row gets its pictures as they are made. A block that no row wants any more, because of interruptions, is given up:
    before it is decoded as if it had never been begun, later as one that ends with the last latent that was decoded, or begun
    to be where the runtime can leave off there.
    """
    first = rows[0]
    block, starts_video = first.sampling.block_latents, first.starts_video
    for row in rows:
        # After a block that was given up, the room that was made for it may be too small for a larger one.
        if row.state.generator.window_latents + block > model.preset.generator.window_latents:
            row.state.generator.empty_window_()
    controls = None
    if model.preset.generator.controls:
        wishes = [(row.controls or StreamControls()).to_latents(row.num_latents, block, model.device) for row in rows]
        controls = Controls.joined(wishes)
    conditions = model.generator.conditions(
        torch.cat([group_audio(torch.cat(row.features[:block], 1), starts_video=starts_video) for row in rows]),
        starts_video=starts_video,
        controls=controls,
    )
    references = References.joined([row.references for row in rows])
    _, _, channels, height, width = references.latents.shape
    like = torch.empty(1, channels, block, height, width, device=model.device)
    z = denoise(
        torch.cat([gaussian_like(like, row.rng) for row in rows]),
        conditions,
        first.flow_times,
        GeneratorState.joined([row.state.generator for row in rows]),
        generator=model.generator,
        runtime=runtime,
        sampling=first.sampling,
        modulations=first.modulations,
    )
    decoders = [row.state.decoder for row in rows]
    batch = join(decoders)
    decode = runtime.decode
    if runtime.decode_soon is not None and any(row.is_awaited for row in rows):
        decode = runtime.decode_soon
    num_decoded = 0
    for latents in z.split(runtime.decode_latents or block, dim=2):
        if not any(row.is_wanted for row in rows):
            break
        step = runtime.decode_first if starts_video and not num_decoded else decode
        for pictures in step(latents, references, batch):
            for row, own in zip(rows, pictures.cpu().numpy(), strict=True):
                row.show(own)
            if runtime.can_leave_off and not any(row.is_wanted for row in rows):
                break
        num_decoded += latents.shape[2]
    if not num_decoded:
        return
    part_(batch, decoders)
    for row, latents in zip(rows, z[:, :, :num_decoded].split(1), strict=True):
        row.end_block(latents)
