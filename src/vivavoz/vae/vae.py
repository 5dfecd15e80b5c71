"""The reference-guided deep-compression video VAE (paper 3.1): encode, encode references once, decode, all streamable.

Shapes: B batch, M references, C_z latent channels, T frames (1 + 4n from a stream's start), T_z = 1 + n latent frames, H W the
pictures' size (multiples of 64).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vivavoz.errors import ConfigError
from vivavoz.nn.stream import StreamState
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.vae.bases import MotionBases, amounts_of
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.decoder import Decoder1, Decoder1State, Decoder2, Decoder2State
from vivavoz.vae.encoder import Encoder, EncoderState, Posterior
from vivavoz.vae.frame_codes import FrameCodes
from vivavoz.vae.fusion import FusionMemory, ReferenceFusion
from vivavoz.vae.warp import Memory, ReferenceWarp, WarpFields, WarpState, compose


@dataclass(frozen=True, slots=True)
class References:
    """Everything the decoder and the generator keep of a person's pictures; computed once, shared by every stream."""

    latents: Tensor
    """(B, M, C_z, H/64, W/64): every reference encoded as a single frame; the generator's `z_r`."""
    fusion: tuple[FusionMemory, ...]
    """Keys and values for D_ref; empty for M = 0."""
    warp: Memory | None
    """Fine features for the reference warp; None without it or for M = 0."""
    photos: Tensor | None
    """(B, M, 3, H', W') pictures to be warped, of any size; None without a warp or for M = 0."""
    size: tuple[int, int]
    """(height, width) of the decoded video."""
    mask: Tensor | None = None
    """(B, M) False where a row has fewer references than M (at least one each); None: all are there."""
    anchor: Tensor | None = None
    """(B, M, 2, 1, h, w) flow of each reference at its own latent, to be subtracted; None unless `WarpConfig.anchored`."""
    cover: Tensor | None = None
    """(B, 1, 1, 1, 1) to be added to the logits of the painted layer's mask; None without a warp or for M = 0."""

    @property
    def num_references(self) -> int:
        """M."""
        return self.latents.shape[1]

    @property
    def form(self) -> tuple[object, ...]:
        """What must be alike for references to be `joined`: the numbers and sizes of pictures."""
        photos = None if self.photos is None else self.photos.shape[1:]
        return self.size, self.latents.shape[1:], photos, self.mask is None

    @staticmethod
    def joined(rows: Sequence[References]) -> References:
        """Several persons' references of one `form` as one batch: a copy, or, of one alone, itself."""
        first = rows[0]
        if len(rows) == 1:
            return first

        blocks = zip(*(row.fusion for row in rows), strict=True)
        levels = None if first.warp is None else zip(*(row.warp or () for row in rows), strict=True)
        return References(
            latents=torch.cat([row.latents for row in rows]),
            fusion=tuple(FusionMemory(torch.cat([m.key for m in of]), torch.cat([m.value for m in of])) for of in blocks),
            warp=None if levels is None else tuple(torch.cat(level) for level in levels),
            photos=_cat([row.photos for row in rows]),
            size=first.size,
            mask=_cat([row.mask for row in rows]),
            anchor=_cat([row.anchor for row in rows]),
            cover=_cat([row.cover for row in rows]),
        )

    def repeat(self, count: int) -> References:
        """Every row `count` times in a row: one person's references for several clips."""

        def rows(x: Tensor) -> Tensor:
            return x.repeat_interleave(count, dim=0)

        return References(
            latents=rows(self.latents),
            fusion=tuple(FusionMemory(rows(memory.key), rows(memory.value)) for memory in self.fusion),
            warp=None if self.warp is None else tuple(rows(level) for level in self.warp),
            photos=None if self.photos is None else rows(self.photos),
            size=self.size,
            mask=None if self.mask is None else rows(self.mask),
            anchor=None if self.anchor is None else rows(self.anchor),
            cover=None if self.cover is None else rows(self.cover),
        )


@dataclass(slots=True, kw_only=True)
class VideoEncoderState(StreamState):
    """The encoder's state, and frames that wait until a group of four is complete."""

    encoder: EncoderState
    pending: Tensor
    num_pending: int = 0
    is_start: bool = True


@dataclass(slots=True, kw_only=True)
class DecoderState(StreamState):
    """State of D1 and of D2 or the reference warp; D_ref has none."""

    d1: Decoder1State
    head: Decoder2State | WarpState
    is_start: bool = True


class VAE(nn.Module):
    """E1, E2, D1, D_ref, and D2 or the reference warp."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = FrameCodes(config.frame_codes, config.latent_channels) if config.frame_codes else None
        self.encoder = Encoder(config)
        self.d1 = Decoder1(config)
        self.face_in = nn.Conv2d(config.face_map_channels[3], config.feature_channels, 1) if config.face_map_channels else None
        self.fusion = ReferenceFusion(config)
        self.head: Decoder2 | ReferenceWarp = Decoder2(config) if config.warp is None else ReferenceWarp(config)

    @property
    def bases(self) -> MotionBases | None:
        """What the warp moves small parts along, where it has any."""
        return self.head.bases if isinstance(self.head, ReferenceWarp) else None

    # Encoding

    def init_encoder_state(self, batch_size: int, height: int, width: int) -> VideoEncoderState:
        """A fresh state to encode a stream of `height` x `width` pictures."""
        check_size(height, width)
        device_and_dtype = next(self.parameters())
        return VideoEncoderState(
            encoder=self.encoder.init_state(batch_size, height, width),
            pending=device_and_dtype.new_zeros(batch_size, 3, FRAMES_PER_LATENT - 1, height, width),
        )

    def encode(self, video: Tensor, state: VideoEncoderState | None = None) -> Posterior:
        """(B, 3, T, H, W) in [-1, 1] -> posterior (B, C_z, T_z, H/64, W/64).

        Without a state T is 1 + 4n. With one any T goes: frames of an unfinished group of four wait, and T_z may be 0.
        """
        check_size(*video.shape[-2:])
        is_start = state is None or state.is_start
        if state is not None:
            video = self._whole_groups(video, state)
            if video.shape[2] == 0:
                b, _, _, h, w = video.shape
                nothing = video.new_zeros(b, self.config.latent_channels, 0, h // 64, w // 64)
                return Posterior(nothing, nothing)
        elif video.shape[2] % FRAMES_PER_LATENT != 1:
            raise ConfigError(f"a clip of {video.shape[2]} frames cannot be encoded: it takes 1 + 4n (1, 5, 9, ...); trim it")
        return self._packed(self.encoder(video, state and state.encoder), is_start=is_start)

    def _packed(self, codes: Posterior, *, is_start: bool = True) -> Posterior:
        """What the encoder says, as latents: with frame codes, those of four pictures become one."""
        if self.codes is None:
            return codes
        variance = self.codes.pack_variance(codes.log_variance.exp(), is_start=is_start)
        # Where a latent says nothing its posterior is the prior.
        log_variance = torch.where(variance > 0, variance, torch.ones_like(variance)).log()
        return Posterior(self.codes.pack(codes.mean, is_start=is_start), log_variance)

    def codes_of(self, z: Tensor, *, is_start: bool = True) -> Tensor:
        """What D1 reads: the latents (B, C_z, T_z, h, w) themselves, or the codes (B, K, T, h, w) of their frames."""
        return z if self.codes is None else self.codes.unpack(z, is_start=is_start)

    @staticmethod
    def _whole_groups(video: Tensor, state: VideoEncoderState) -> Tensor:
        """Of the waiting and the new frames, those that complete a latent; the others wait."""
        video = torch.cat([state.pending[:, :, : state.num_pending], video], dim=2)
        first = 1 if state.is_start and video.shape[2] else 0
        usable = first + (video.shape[2] - first) // FRAMES_PER_LATENT * FRAMES_PER_LATENT
        state.num_pending = video.shape[2] - usable
        state.pending[:, :, : state.num_pending].copy_(video[:, :, usable:])
        state.is_start = state.is_start and usable == 0
        return video[:, :, :usable]

    def at_rest(self, latents: Tensor) -> Tensor:
        """References as the encoder read them, (B, M, C_z, h, w), for a person whose first one shows a face at rest.

        Of the codes that the configuration calls resting, the first reference gets the usual value, or what its reading goes
        beyond that by more than a reading's error; the others are moved along, as readings of one person err alike.
        """
        latents = latents.clone()
        for code, usual, error in self.config.resting_codes:  # a single picture's latent has its codes for channels
            read = latents[:, :1, code]
            latents[:, :, code] += usual + functional.softshrink(read - usual, error) - read
        return latents

    def encode_references(
        self,
        pictures: Tensor,
        photos: Tensor | None = None,
        mask: Tensor | None = None,
        latents: Tensor | None = None,
        *,
        at_rest: bool = False,
        moved: Tensor | None = None,
        cover: float = 0.0,
    ) -> References:
        """Reference pictures (B, M, 3, H, W) in [-1, 1], M >= 0, -> what decoding and generating need of them.

        `photos` (B, M, 3, H', W') are the same pictures as finely as they are to be shown, for the reference warp (default: the
        pictures themselves). `mask` (B, M) is False for pictures that are only padding. `latents` (B, M, C_z, H/64, W/64) replace
        the encoder's own, where training knows better ones; `at_rest` corrects the encoder's own by `at_rest`, where a generator
        writes what is decoded: what the encoder writes is decoded best beside what it wrote of the references. `moved` (B, M, K)
        says how far the codes of each picture are from those of the first, where that is known: only the first is then read.
        `cover` says how much further than the decoder has it, in logits, the painted layer covers the references.
        """
        b, m, _, h, w = pictures.shape
        check_size(h, w)
        photos = pictures if photos is None else photos
        size = (h, w) if self.config.warp is None else (int(photos.shape[-2]), int(photos.shape[-1]))
        if m == 0:
            return References(pictures.new_zeros(b, 0, self.config.latent_channels, h // 64, w // 64), (), None, None, size)
        seen = self.encoder.look(pictures.flatten(0, 1))
        if latents is None:
            codes = self.encoder.encode_features(seen.levels[-1], None if seen.face is None else seen.face.places)
            latents = torch.unflatten(self._packed(codes).mean.squeeze(2), 0, (b, m))
            if at_rest:
                latents = self.at_rest(latents)
            if moved is not None:
                by = functional.pad(moved, (0, latents.shape[2] - moved.shape[2])).to(latents)
                latents = latents[:, :1] + by[..., None, None]
        coarse = seen.levels[-1]
        if self.face_in is not None and seen.face is not None:
            coarse = coarse + self.face_in(seen.face.coarse)
        motion = None
        if self.config.reference_motion:
            motion = self.d1(self.codes_of(latents.flatten(0, 1).unsqueeze(2))).squeeze(2)
        warp = None
        if isinstance(self.head, ReferenceWarp):
            warp = self.head.remember([*seen.levels[:-1], coarse], motion, seen.face, num_references=m)
        features = coarse if motion is None else coarse + motion
        references = References(
            latents=latents,
            fusion=self.fusion.remember(torch.unflatten(features, 0, (b, m))) if self.config.references else (),
            warp=warp,
            photos=photos if warp is not None else None,
            size=size,
            mask=mask,
            cover=None if warp is None else latents.new_full((b, 1, 1, 1, 1), cover),
        )
        if self.config.warp is not None and self.config.warp.anchored:
            unmoved = (self.warp_fields(latents[:, i].unsqueeze(2), references).flow[:, i] for i in range(m))
            references = replace(references, anchor=torch.stack(list(unmoved), dim=1))
        return references

    # Decoding

    def init_decoder_state(self, batch_size: int, latent_height: int, latent_width: int, num_references: int) -> DecoderState:
        """A fresh state to decode a stream of `latent_height` x `latent_width` latents."""
        h, w = latent_height * 4, latent_width * 4
        head = self.head
        return DecoderState(
            d1=self.d1.init_state(batch_size, latent_height, latent_width),
            head=head.init_state(batch_size, num_references, h, w)
            if isinstance(head, ReferenceWarp)
            else head.init_state(batch_size, h, w),
        )

    def warp_fields(self, z: Tensor, references: References, state: DecoderState | None = None) -> WarpFields:
        """Latents -> the fields of the reference warp, before they meet the photographs."""
        return self.fields_of(self.next_codes(z, state), references, state)

    def fields_of(self, codes: Tensor, references: References, state: DecoderState | None = None) -> WarpFields:
        """The fields of the pictures that `codes_of` gave these codes for."""
        *_, fields = self.fields_in_steps(codes, references, state)
        assert fields is not None, "the fields come last"
        return fields

    def fields_in_steps(
        self, codes: Tensor, references: References, state: DecoderState | None = None
    ) -> Iterator[WarpFields | None]:
        """`fields_of` for those who may lose interest: some times None, and at last the fields.

        What is left off leaves no trace in the state of a decoder that sees single pictures.
        """
        assert isinstance(self.head, ReferenceWarp)
        assert self.config.warp is not None
        amounts = None
        if self.config.warp.basis_codes and references.num_references:
            of_references = self.codes_of(references.latents.flatten(0, 1).unsqueeze(2)).squeeze(2)
            of_references = of_references.unflatten(0, (-1, references.num_references))
            amounts = amounts_of(codes, of_references, self.config.warp.basis_codes)
        anchor, cover, own = references.anchor, references.cover, cast("WarpState | None", state and state.head)
        x = self._fused(codes, references, state)
        yield None
        for fields in self.head.in_steps(x, references.warp, references.mask, own, amounts):
            if fields is not None:
                flow = fields.flow if anchor is None else fields.flow - anchor
                fields = replace(fields, flow=flow, mask=fields.mask if cover is None else fields.mask + cover)
            yield fields

    def next_codes(self, z: Tensor, state: DecoderState | None) -> Tensor:
        """`codes_of` the next latents of a stream."""
        codes = self.codes_of(z, is_start=state is None or state.is_start)
        if state is not None:
            state.is_start = False
        return codes

    def _fused(self, codes: Tensor, references: References, state: DecoderState | None) -> Tensor:
        """D1 and D_ref."""
        fused: Tensor = self.fusion(self.d1(codes, state and state.d1), references.fusion, references.mask)
        return fused

    def decode(self, z: Tensor, references: References, state: DecoderState | None = None) -> Tensor:
        """(B, C_z, T_z, h, w) -> video (B, 3, T, *references.size): 1 frame for a stream's first latent, 4 for every later one.

        Nominally in [-1, 1]; clamp before showing.
        """
        if isinstance(self.head, ReferenceWarp):
            return compose(self.warp_fields(z, references, state), references.photos, references.size)
        x = self._fused(self.next_codes(z, state), references, state)
        video: Tensor = self.head(x, state and state.head)
        return video


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Rows one after the other, where all have them."""
    return torch.cat([part for part in parts if part is not None]) if parts[0] is not None else None


def check_size(height: int, width: int) -> None:
    """Raise ConfigError unless both sides are multiples of 64 pixels."""
    if height % 64 or width % 64 or height < 64 or width < 64:
        raise ConfigError(f"pictures of {width} x {height} do not fit the VAE: both sides must be multiples of 64; resize them")
