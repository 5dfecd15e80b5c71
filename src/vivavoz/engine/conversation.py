"""What belongs to one conversation alone: its sound, its clock, its wishes, its pictures. No network runs here.

Two threads may share one: the caller's pushes sound and takes pictures, the maker's (`vivavoz.engine.blocks`) turns one into the
other. `N` samples.
"""

from __future__ import annotations

import threading
from collections import deque
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
from vivavoz.engine.denoise import needs_no_reference_branch
from vivavoz.engine.model import Model
from vivavoz.engine.samples import SampleQueue
from vivavoz.errors import AudioError, ConfigError
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.state import GeneratorState
from vivavoz.media.image import Pixels
from vivavoz.nn.stream import StreamState
from vivavoz.presets import Preset, SamplingConfig
from vivavoz.timing import FRAME_RATE, frame_time, frames_of_latents
from vivavoz.vae.vae import DecoderState, References

_NUM_SEEDS = 2**63


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One picture of a stream."""

    image: Pixels
    """`(H, W, 3)` uint8 RGB."""
    index: int
    """0 for the stream's first picture; pictures that an interruption dropped are counted."""
    time: Fraction
    """When it is shown, in seconds on the clock of the pushed sound."""
    duration: Fraction = Fraction(1, FRAME_RATE)
    """How long it is shown, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interruption:
    """What an interruption dropped. The clock goes on: the next picture's time is `time`."""

    num_frames: int
    """Pictures that were made and not taken."""
    sound_s: Fraction
    """Pushed sound that had not become pictures, in seconds."""
    time: Fraction
    """Where sound pushed from now on stands on the clock of the pushed sound, in seconds."""


@dataclass(slots=True, kw_only=True)
class ConversationState(StreamState):
    """All tensors of a stream that change; of one size from beginning to end."""

    audio: AudioFeaturesState
    generator: GeneratorState
    decoder: DecoderState


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockBegun:
    """A row's next block, denoised and not yet decoded."""

    z: Tensor
    """`(1, C, k, h, w)`."""
    sampling: SamplingConfig
    controls: Wishes | None
    rng_state: Tensor
    """Of the row's generator of noise, before the block's was drawn."""


class Conversation:
    """One row: what `Stream` and `PooledStream` have in common."""

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
        _check_block(sampling, model.preset)
        if not 0 <= seed < _NUM_SEEDS:
            raise ConfigError(f"seed is {seed}, expected a whole number from 0 to 2**63 - 1: choose another")
        self.sampling = sampling
        self.references = references
        self._model, self._runtime = model, model.runtime
        self._config = config
        self._controls: Wishes | None = None
        self.controls = controls
        self._sample_rate_hz = sample_rate_hz
        # Of both threads, behind the lock. What was said between two interruptions is an utterance, with a count of its own.
        self._lock = threading.Lock()
        self._resampler = StreamingResampler(sample_rate_hz, num_channels)
        self._num_pushed = 0
        self._is_closed = False
        self._samples = SampleQueue()
        self._ready: deque[Frame] = deque()
        self._utterance = 0
        self._utterance_start_s = Fraction(0)
        self._num_samples = 0
        self._num_frames = 0
        self._num_frames_due: int | None = None
        self._index = 0
        self._num_unwanted = 0
        # Of the maker's thread.
        self._heard_utterance = 0
        self.features: list[Tensor] = []
        """Of each of the next block's latents, as far as they are heard, `(1, pictures, D)`."""
        self.begun: BlockBegun | None = None
        """The next block once it is denoised; it was made of the first `features`."""
        self.uncommitted: Tensor | None = None
        """The last block while it is not part of the past."""
        self.num_latents = 0
        """Latent frames made."""
        self.rng = torch.Generator().manual_seed(seed)
        self._keep_times(sampling)
        with torch.inference_mode():
            self.state = _start(model, references, sampling)

    # For the caller

    @property
    def controls(self) -> Wishes | None:
        """What the face shall do beside speaking; may be set at any time and holds from the next block on."""
        return self._controls

    @controls.setter
    def controls(self, controls: Wishes | None) -> None:
        if controls is not None:
            controls.check(self._config)
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

    def use(self, *, num_steps: int, block_latents: int) -> None:
        """From the next block on: Euler steps per block, of which fewer are faster and coarser, and latents per block, of which
        more cost less and react later. For the maker's thread.

        Raises:
            ConfigError: steps below 1, or blocks that the preset does not make.
        """
        if num_steps != self.sampling.num_steps:
            self._keep_times(replace(self.sampling, num_steps=num_steps))
        if (num_steps, block_latents) != (self.sampling.num_steps, self.sampling.block_latents):
            sampling = replace(self.sampling, num_steps=num_steps, block_latents=block_latents)
            _check_block(sampling, self._model.preset)
            self.sampling = sampling

    def skip(self, num_frames: int) -> None:
        """Leave out the next pictures: their sound is heard, and they are counted, but they are not made. For the maker's thread.

        The generator goes on from the last block it made, so the face jumps over them; the lips are right from the first picture.

        Raises:
            AudioError: sound of the next block has been heard already.
        """
        if num_frames and self.features and self.is_wanted:
            raise AudioError("pictures whose sound has been heard cannot be left out; skip them before their sound is pushed")
        with self._lock:
            self._num_unwanted += num_frames
            self._num_frames += num_frames
            self._index += num_frames

    @torch.inference_mode()
    def _keep_times(self, sampling: SamplingConfig) -> None:
        """The sampler's times, the last of which is the clean pass's, and what they say to the generator's layers."""
        self.flow_times = flow_times(sampling.num_steps, shift=sampling.timestep_shift, device=self._model.device)
        self.modulations = self._model.generator.modulations(self.flow_times)

    def interrupt(self) -> Interruption:
        """Drop all sound that has not become pictures, and all pictures not taken; the stream, also a flushed one, goes on.

        What is pushed next is heard as after silence. The generator goes on from the last block it made, so the face does, but
        for a jump over the dropped pictures. A block that is being made is given up as soon as that leaves nothing half done.
        """
        with self._lock:
            self._resampler.reset()
            time = Fraction(self._num_pushed, self._sample_rate_hz)
            dropped = Interruption(
                num_frames=len(self._ready),
                sound_s=max(Fraction(0), time - self._utterance_start_s - frame_time(self._num_frames)),
                time=time,
            )
            self._utterance += 1
            self._utterance_start_s = time
            self._num_samples = self._num_frames = self._num_unwanted = 0
            self._num_frames_due = None
            self._samples = SampleQueue()
            self._ready.clear()
        return dropped

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def close(self) -> None:
        """Give up the stream: sound and pictures not taken are gone, and so is its memory when nobody holds it any more."""
        with self._lock:
            self._is_closed = True
            self._samples = SampleQueue()
            self._ready.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _take_in(self, chunk: ArrayLike) -> None:
        if self._is_closed:
            raise AudioError("sound was pushed to a stream that is closed; open another with avatar.stream()")
        chunk = np.asarray(chunk)
        with self._lock:
            samples = self._resampler.push(chunk)
            self._num_pushed += len(chunk)
            self._samples.push(samples)
            self._num_samples += len(samples)

    def _end(self) -> None:
        """End the sound; silence follows it."""
        with self._lock:
            if self._num_frames_due is None and not self._is_closed:
                samples = self._resampler.flush()
                self._samples.push(samples)
                self._num_samples += len(samples)
                self._num_frames_due = frames_of_samples(self._num_samples)

    # For the maker

    @property
    def starts_video(self) -> bool:
        """Whether the next block is the first."""
        return self.num_latents == 0

    @property
    def utterance(self) -> int:
        """Number of the one that was heard last."""
        return self._heard_utterance

    @property
    def is_wanted(self) -> bool:
        """Whether what was heard last is still to be shown: not after an interruption."""
        return self._heard_utterance == self._utterance and not self._is_closed

    @property
    def is_awaited(self) -> bool:
        """Whether there is no picture yet of what was pushed since an interruption."""
        return self._num_frames == 0 and not self.starts_video

    @property
    def has_heard(self) -> bool:
        """Whether all of the next block's features are there, and still wanted."""
        return self.is_wanted and len(self.features) >= self.sampling.block_latents

    def next_sound(self) -> NDArray[np.float32] | None:
        """The samples `(N,)` that the next latent still needs, once they are there; None when the next block needs no more.

        Always pieces of one latent frame, whatever the chunks, so that the same numbers come out to the last bit. Pictures that
        are left out come first, in a piece of their own; `hear` has to be told what was made of each piece.
        """
        heard = self.state.audio
        with self._lock:
            if self._heard_utterance != self._utterance:
                self._heard_utterance = self._utterance
                self.features.clear()
                with torch.inference_mode():
                    heard.reset_()
            # Of this utterance, pictures of blocks that were ended: some of them may still be in the making.
            num_past = heard.num_frames + self._num_unwanted - sum(part.shape[1] for part in self.features)
            is_over = self._num_frames_due is not None and num_past >= self._num_frames_due
            if self._is_closed or is_over or len(self.features) >= self.sampling.block_latents:
                return None
            latent = self.num_latents + len(self.features)
            num_wanted = frames_of_latents(latent + 1) - frames_of_latents(latent)
            num_frames = heard.num_frames + (self._num_unwanted or num_wanted)
            num_samples = samples_needed(num_frames) - heard.mel.num_samples
            if self._num_frames_due is not None:
                self._samples.push(np.zeros(max(0, num_samples - len(self._samples)), np.float32))
            return self._samples.pop(num_samples)

    def hear(self, features: Tensor) -> None:
        """Take the features `(1, pictures, D)` of the piece that `next_sound` gave last."""
        with self._lock:
            if self._num_unwanted:
                self._num_unwanted = 0
            else:
                self.features.append(features)

    def give_up_block(self) -> None:
        """As if the block begun had not been: its features are still there, and the next one has the same noise."""
        if self.begun is not None:
            self.rng.set_state(self.begun.rng_state)
            self.begun = None

    @property
    def is_begun_as_wished(self) -> bool:
        """Whether the next block is denoised, still wanted, and as it would be if it were begun now."""
        begun = self.begun
        return begun is not None and self.is_wanted and (begun.sampling, begun.controls) == (self.sampling, self._controls)

    def show(self, images: NDArray[np.uint8], utterance: int) -> None:
        """Take the next pictures `(T, H, W, 3)` of a block of `utterance`; after an interruption they are of no interest."""
        with self._lock:
            if self._is_closed or utterance != self._utterance:
                return  # an interruption came in between
            num_due = len(images) if self._num_frames_due is None else self._num_frames_due - self._num_frames
            for image in images[:num_due]:
                time = self._utterance_start_s + frame_time(self._num_frames)
                self._ready.append(Frame(image=image, index=self._index, time=time))
                self._num_frames += 1
                self._index += 1

    def end_block(self, z: Tensor) -> None:
        """Take the latents `(1, C, k, h, w)` of the block that was made of the first `features`."""
        del self.features[: z.shape[2]]
        self.begun = None
        self.uncommitted = z
        self.num_latents += z.shape[2]


def _check_block(sampling: SamplingConfig, preset: Preset) -> None:
    most = preset.generator.block_latents
    if sampling.block_latents > most:
        raise ConfigError(
            f"block_latents is {sampling.block_latents}, but the {preset.name} preset makes blocks of at most {most}: lower it"
        )


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
