"""From sound to pictures, a block at a time, for one conversation or for many as rows of one batch (algorithm 2).

`B` rows, `k` latents of a block; `B C k H W` latent blocks, `B T H W 3` pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

import torch
from torch import Tensor

from vivavoz.engine.controls import StreamControls
from vivavoz.engine.conversation import BlockBegun, Conversation
from vivavoz.engine.denoise import denoise
from vivavoz.engine.model import Model
from vivavoz.engine.overlap import Overlap
from vivavoz.engine.runtime import Runtime
from vivavoz.flow.noise import gaussian_like
from vivavoz.generator.conditioning import CONTROL_NAMES, Controls, group_audio
from vivavoz.generator.state import GeneratorState
from vivavoz.nn.stream import join, part_
from vivavoz.vae.vae import References

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """A block of rows that are alike, denoised; and what holds of them until it is ended."""

    rows: Sequence[Conversation]
    z: Tensor
    starts_video: bool
    is_awaited: bool
    utterances: Sequence[int]

    @classmethod
    def begun(cls, rows: Sequence[Conversation]) -> Self:
        """The block that each of `rows` has begun."""
        return cls(
            rows=rows,
            z=torch.cat([row.begun.z for row in rows if row.begun is not None]),
            starts_video=rows[0].starts_video,
            is_awaited=any(row.is_awaited for row in rows),
            utterances=[row.utterance for row in rows],
        )

    def end(self, num_latents: int) -> None:
        """Let the rows go on from the first so many latents."""
        for row, latents in zip(self.rows, self.z[:, :, :num_latents].split(1), strict=True):
            row.end_block(latents)


@torch.inference_mode()
def make_blocks(model: Model, runtime: Runtime, conversations: Sequence[Conversation], overlap: Overlap | None = None) -> int:
    """Make the next block of every conversation that has sound enough, and give how many had.

    Conversations share their calls where they are alike: in sampling, in size and number of pictures, and in whether the video
    begins. Where they stand in their windows does not matter. With `overlap` the generator makes the block after the next, as far
    as there is sound for it, while the decoder draws the next one: the same pictures, on a CPU to the bit.
    """
    if overlap is not None:
        return _make_overlapped(model, runtime, conversations, overlap)
    num_rows = 0
    for rows in _begin(model, runtime, conversations):
        block = _Block.begun(rows)
        if num_latents := _decode(model, runtime, block):
            block.end(num_latents)
        else:
            _give_up(rows)
        num_rows += len(rows)
    return num_rows


def _make_overlapped(model: Model, runtime: Runtime, conversations: Sequence[Conversation], overlap: Overlap) -> int:
    def begin(rows: Sequence[Conversation]) -> None:
        for _ in _begin(model, runtime, rows):
            pass

    overlap.check()  # errors of what was begun ahead come when it is due
    _give_up([row for row in conversations if not row.is_begun_as_wished])
    overlap.begin(partial(begin, [row for row in conversations if row.begun is None]))
    overlap.check()
    begun = [row for row in conversations if row.begun is not None]
    ready = [row for row in begun if row.is_begun_as_wished]
    blocks = [_Block.begun(group) for group in _groups(runtime, ready, _block_kind)]
    for block in blocks:
        block.end(block.z.shape[2])
    overlap.begin(partial(begin, ready))
    try:
        for block in blocks:
            # The blocks are part of the past already, so they are drawn to the end whoever is interrupted.
            _decode(model, runtime, block, to_the_end=True)
    finally:
        overlap.wait()  # `blocks` has to be there until then: its latents are being written to the past
    return len(begun)


def _begin(model: Model, runtime: Runtime, conversations: Sequence[Conversation]) -> Iterator[Sequence[Conversation]]:
    """The generator's part: the next block of every conversation that has sound enough, group by group."""
    # The clean pass of the last blocks comes only now, so that their pictures did not wait for what the next ones need.
    for group in _groups(runtime, [row for row in conversations if row.uncommitted is not None], _past_kind):
        _commit(model, runtime, group)
    _hear(model, runtime, conversations)
    for group in _groups(runtime, [row for row in conversations if row.has_heard], _block_kind):
        _denoise(model, runtime, group)
        yield group


def _give_up(rows: Sequence[Conversation]) -> None:
    for row in rows:
        row.give_up_block()


def _block_kind(row: Conversation) -> tuple[Hashable, ...]:
    return row.starts_video, *_kind(row)


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


def _denoise(model: Model, runtime: Runtime, rows: Sequence[Conversation]) -> None:
    """Begin the next block of every row."""
    first = rows[0]
    block, starts_video = first.sampling.block_latents, first.starts_video
    for row in rows:
        # After a block that was given up, the room that was made for it may be too small for a larger one.
        if row.state.generator.window_latents + block > model.preset.generator.window_latents:
            row.state.generator.empty_window_()
    controls = [row.controls for row in rows]
    wishes = None
    if model.preset.generator.controls:
        of_rows = zip(controls, rows, strict=True)
        wishes = Controls.joined(
            [(wish or StreamControls()).to_latents(row.num_latents, block, model.device) for wish, row in of_rows]
        )
    conditions = model.generator.conditions(
        torch.cat([group_audio(torch.cat(row.features[:block], 1), starts_video=starts_video) for row in rows]),
        starts_video=starts_video,
        controls=wishes,
    )
    _, _, channels, height, width = first.references.latents.shape
    like = torch.empty(1, channels, block, height, width, device=model.device)
    rng_states = [row.rng.get_state() for row in rows]
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
    z = _homed(z, rows, wishes, model.preset.generator.homing)
    for row, latents, wish, rng_state in zip(rows, z.split(1), controls, rng_states, strict=True):
        row.begun = BlockBegun(z=latents, sampling=first.sampling, controls=wish, rng_state=rng_state)


def _homed(z: Tensor, rows: Sequence[Conversation], wishes: Controls | None, homing: Sequence[tuple[int, float]]) -> Tensor:
    """Latents `(B, C, k, H, W)` as near to the rows' first references as `GeneratorConfig.homing` asks, in pictures and past.

    Where an expression is wished for, only what is held still comes home: the wish says where the face should be.
    """
    if not homing:
        return z
    shares = z.new_zeros(z.shape[1])
    for channel, share in homing:
        shares[channel] = share
    shares = shares.view(-1, 1, 1, 1).expand_as(z)
    if wishes is not None and wishes.present is not None:
        is_asked = wishes.present[..., CONTROL_NAMES.index("expression")][:, None, :, None, None]
        shares = shares.masked_fill(is_asked & (shares < 1), 0)
    home = torch.cat([row.references.latents[:, 0] for row in rows]).to(z)
    return torch.lerp(z, home.unsqueeze(2).expand_as(z), shares)


def _decode(model: Model, runtime: Runtime, block: _Block, *, to_the_end: bool = False) -> int:
    """Decode a block, and give how many of its latents were.

    Every row gets its pictures as they are made. A block that no row wants any more, because of interruptions, is given up unless
    it has to be drawn `to_the_end`: before it is decoded as if it had never been begun, later as one that ends with the last
    latent that was decoded, or begun to be where the runtime can leave off there.
    """
    rows, z = block.rows, block.z
    references = References.joined([row.references for row in rows])
    decoders = [row.state.decoder for row in rows]
    batch = join(decoders)
    decode = runtime.decode
    if runtime.decode_soon is not None and block.is_awaited:
        decode = runtime.decode_soon

    def is_wanted() -> bool:
        return to_the_end or any(row.is_wanted for row in rows)

    num_decoded = 0
    for latents in z.split(runtime.decode_latents or z.shape[2], dim=2):
        if not is_wanted():
            break
        step = runtime.decode_first if block.starts_video and not num_decoded else decode
        for pictures in step(latents, references, batch):
            for row, own, utterance in zip(rows, pictures.cpu().numpy(), block.utterances, strict=True):
                row.show(own, utterance)
            if runtime.can_leave_off and not is_wanted():
                break
        num_decoded += latents.shape[2]
    if num_decoded:
        part_(batch, decoders)
    return num_decoded
