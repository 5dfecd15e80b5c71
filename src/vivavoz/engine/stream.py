"""One live conversation: sound in, pictures out, block by block (algorithm 2).

`B C k H W` latent blocks, B = 1; `H W 3` pictures; `N` samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from types import EllipsisType, TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vivavoz.audio.alignment import frames_of_samples, samples_needed
from vivavoz.audio.features import AudioFeaturesState
from vivavoz.audio.resample import StreamingResampler
from vivavoz.engine.controls import Expression, State, StreamControls, Wishes
from vivavoz.engine.denoise import denoise, needs_no_reference_branch
from vivavoz.engine.model import Model
from vivavoz.engine.samples import SampleQueue
from vivavoz.errors import AudioError, ConfigError
from vivavoz.flow.noise import gaussian_like
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.conditioning import group_audio
from vivavoz.generator.state import GeneratorState
from vivavoz.media.image import Pixels
from vivavoz.nn.stream import StreamState
from vivavoz.presets import SamplingConfig
from vivavoz.timing import FRAME_RATE, frame_time, frames_of_latents, latents_of_frames
from vivavoz.vae.vae import DecoderState, References

_NUM_SEEDS = 2**63


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One picture of a stream."""

    image: Pixels
    """`(H, W, 3)` uint8 RGB."""
    index: int
    """0 for the stream's first picture."""
    time: Fraction
    """When it is shown, in seconds on the clock of the pushed sound."""
    duration: Fraction = Fraction(1, FRAME_RATE)
    """How long it is shown, in seconds."""


@dataclass(slots=True, kw_only=True)
class ConversationState(StreamState):
    """All tensors of a stream that change; of one size from beginning to end."""

    audio: AudioFeaturesState
    generator: GeneratorState
    decoder: DecoderState


class Stream:
    """A live conversation with an avatar; `Avatar.stream` opens one.

    Push sound of any chunk length, and take pictures out as soon as their block can be made:

        with avatar.stream() as stream:
            for chunk in microphone:
                for frame in stream.push(chunk): ...
            for frame in stream.flush(): ...

    How the sound is cut into chunks changes nothing in the pictures. A stream belongs to one thread at a time; streams do not
    disturb one another.
    """

    def __init__(
        self,
        model: Model,
        references: References,
        *,
        sampling: SamplingConfig,
        seed: int,
        sample_rate_hz: int,
        num_channels: int,
        controls: Wishes | None,
    ) -> None:
        config = model.preset.generator
        if sampling.block_latents > config.block_latents:
            raise ConfigError(
                f"block_latents is {sampling.block_latents}, but the {model.preset.name} preset makes blocks of at most "
                f"{config.block_latents}: lower it"
            )
        if not 0 <= seed < _NUM_SEEDS:
            raise ConfigError(f"seed is {seed}, expected a whole number from 0 to 2**63 - 1: choose another")
        self.sampling = sampling
        self._model = model
        self._references = references
        self._runtime = model.runtime
        self._controls: Wishes | None = None
        self.controls = controls
        self._resampler = StreamingResampler(sample_rate_hz, num_channels)
        self._samples = SampleQueue()
        self._features: list[Tensor] = []
        self._ready: deque[Frame] = deque()
        self._uncommitted: Tensor | None = None
        self._num_samples = 0
        self._num_latents = 0
        self._num_frames_ready = 0
        self._num_frames_due: int | None = None
        self._is_closed = False
        self._flow_times = flow_times(sampling.num_steps, shift=sampling.timestep_shift, device=model.device)
        self._rng = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            self.state = _start(model, references, sampling)

    @property
    def controls(self) -> Wishes | None:
        """What the face shall do beside speaking; may be set at any time and holds from the next block on."""
        return self._controls

    @controls.setter
    def controls(self, controls: Wishes | None) -> None:
        if controls is not None:
            controls.check(self._model.preset.generator)
        self._controls = controls

    def set(
        self,
        *,
        state: State | EllipsisType | None = ...,
        expression: Expression | EllipsisType | None = ...,
        expression_intensity: float | EllipsisType = ...,
        gaze_rad: tuple[float, float] | EllipsisType | None = ...,
        head_pose_rad: tuple[float, float, float] | EllipsisType | None = ...,
    ) -> None:
        """Change some wishes from the next block on, and keep the others; None leaves one to the model again.

        See `StreamControls` for values and errors. A track that is being followed is given up.
        """
        wishes = {
            "state": state,
            "expression": expression,
            "expression_intensity": expression_intensity,
            "gaze_rad": gaze_rad,
            "head_pose_rad": head_pose_rad,
        }
        kept = self._controls if isinstance(self._controls, StreamControls) else StreamControls()
        self.controls = replace(kept, **{name: wish for name, wish in wishes.items() if wish is not ...})  # type: ignore[arg-type]

    def use_steps(self, num_steps: int) -> None:
        """Euler steps per block from the next block on: fewer are faster and coarser. Raises `ConfigError` below 1."""
        if num_steps != self.sampling.num_steps:
            self.sampling = replace(self.sampling, num_steps=num_steps)
            self._flow_times = flow_times(num_steps, shift=self.sampling.timestep_shift, device=self._model.device)

    def interrupt(self) -> None:
        """Drop all sound that has not become pictures, and all pictures not taken; the stream goes on.

        What is pushed next is heard as after silence, and begins with the next picture.
        """
        self._resampler.reset()
        self._samples = SampleQueue()
        self._ready.clear()
        self._features.clear()
        self.state.audio.reset_()
        self._num_samples = 0

    def push(self, chunk: ArrayLike) -> Iterator[Frame]:
        """Take in sound, and give the pictures it completes.

        The sound is taken in at once; the pictures are made as the iterator is read. What is left unread comes first next time.

        Args:
            chunk: `(N,)`, or `(N, num_channels)`; any N >= 0; int16, or float in [-1, 1].

        Raises:
            AudioError: a chunk of another shape or number format, samples that are not finite or far beyond [-1, 1], or a stream
                that was flushed or closed.
        """
        if self._is_closed:
            raise AudioError("sound was pushed to a stream that is closed; open another with avatar.stream()")
        self._take(self._resampler.push(chunk))
        return self._frames()

    def flush(self) -> Iterator[Frame]:
        """End the sound, and give the pictures still due: `ceil(samples at 16 kHz / 640)` in all, as if silence followed."""
        if self._num_frames_due is None and not self._is_closed:
            self._take(self._resampler.flush())
            self._num_frames_due = frames_of_samples(self._num_samples)
            block = self.sampling.block_latents
            num_latents = -(-latents_of_frames(self._num_frames_due) // block) * block
            num_missing = samples_needed(frames_of_latents(num_latents)) - self._num_samples
            self._samples.push(np.zeros(max(0, num_missing), dtype=np.float32))
        return self._frames()

    def close(self) -> None:
        """Give up the stream: pictures not taken are gone, its memory is free."""
        self._is_closed = True
        self._ready.clear()
        self._features.clear()
        self._samples = SampleQueue()
        self._uncommitted = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _take(self, samples: NDArray[np.float32]) -> None:
        self._samples.push(samples)
        self._num_samples += len(samples)

    def _frames(self) -> Iterator[Frame]:
        while not self._is_closed:
            if self._ready:
                yield self._ready.popleft()
                continue
            # Only now, so that a block's pictures do not wait for what the next block needs.
            self._commit()
            if not self._hear():
                return
            self._make_block()

    def _hear(self) -> bool:
        """Encode sound up to the end of the next block; whether there was enough.

        Always in pieces of one latent frame, whatever the chunks, so that the same numbers come out to the last bit.
        """
        if self._num_frames_due is not None and self._num_frames_ready >= self._num_frames_due:
            return False
        state = self.state.audio
        while len(self._features) < self.sampling.block_latents:
            latent = self._num_latents + len(self._features)
            num_frames = state.num_frames + frames_of_latents(latent + 1) - frames_of_latents(latent)
            piece = self._samples.pop(samples_needed(num_frames) - state.mel.num_samples)
            if piece is None:
                return False
            with torch.inference_mode():
                self._features.append(self._model.audio(torch.from_numpy(piece)[None].to(self._model.device), state))
        return True

    def _make_block(self) -> None:
        """Denoise the next block and decode it."""
        model, state, block = self._model, self.state.generator, self.sampling.block_latents
        with torch.inference_mode():
            starts_video = state.starts_video
            conditions = model.generator.conditions(
                group_audio(torch.cat(self._features, 1), starts_video=starts_video),
                starts_video=starts_video,
                controls=None if self._controls is None else self._controls.to_latents(self._num_latents, block, model.device),
            )
            _, _, channels, height, width = self._references.latents.shape
            z = denoise(
                gaussian_like(torch.empty(1, channels, block, height, width, device=model.device), self._rng),
                conditions,
                self._flow_times,
                state,
                generator=model.generator,
                runtime=self._runtime,
                sampling=self.sampling,
            )
            decode = self._runtime.decode_first if starts_video else self._runtime.decode
            images = decode(z, self._references, self.state.decoder)[0].cpu().numpy()
        self._features.clear()
        self._uncommitted = z
        self._num_latents += block
        for image in images:
            if self._num_frames_due is None or self._num_frames_ready < self._num_frames_due:
                index = self._num_frames_ready
                self._ready.append(Frame(image=image, index=index, time=frame_time(index)))
                self._num_frames_ready += 1

    def _commit(self) -> None:
        """Make the last block part of the next one's past."""
        if self._uncommitted is None:
            return
        with torch.inference_mode():
            self._model.generator.commit(
                self._uncommitted,
                self.state.generator,
                next_block_latents=self.sampling.block_latents,
                write=self._runtime.write_context,
            )
        self._uncommitted = None


def _start(model: Model, references: References, sampling: SamplingConfig) -> ConversationState:
    """Algorithm 2, step 1: empty states, and the references' keys and values."""
    _, num_references, _, height, width = references.latents.shape
    state = ConversationState(
        audio=model.audio.init_state(1),
        generator=model.generator.init_state(
            1,
            (height, width),
            num_references=num_references,
            guidance=needs_no_reference_branch(sampling),
            cache_read=model.runtime.cache_read,
        ),
        decoder=model.vae.init_decoder_state(1, height, width, num_references),
    )
    model.generator.prefill(references.latents.transpose(1, 2), state.generator)
    return state
