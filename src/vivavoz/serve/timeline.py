"""One clock for sound and picture: what is said and shown when, what is to be made next, and what is given up when it is late.

Time runs in moments of 40 ms: 960 samples at 24 kHz and one picture. Sound is the master: it is played at the pace of the
clock, whatever becomes of the pictures. A picture belongs to the sound it was made from, and is shown at that moment or never.
No thread, socket or model in here; every method takes the time as an argument.

`N` samples mono int16; `H W 3` pictures uint8 RGB.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vivavoz.audio.alignment import samples_needed
from vivavoz.engine.controls import State
from vivavoz.media.image import Pixels
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, Pcm, SpeechQueue, Utterance
from vivavoz.timing import FRAME_RATE, FRAMES_PER_LATENT, SAMPLE_RATE_HZ, frames_of_latents, latents_of_frames

MOMENT_S = 1 / FRAME_RATE

_GUARD_SAMPLES = SOUND_RATE_HZ * 3 // 1000
"""Beyond what hearing needs: the reach of the resampler's filter."""
_FADE_SAMPLES = SOUND_RATE_HZ // 200
"""Sound that is cut off fades within 5 ms."""
_FIRST_GUESS_S = 0.12
_MAX_LEAD_S = 1.5
_STALL_MOMENTS = FRAME_RATE
"""A clock that stood still for longer goes on from where it stood, and does not rush."""
_CALM_S = 20.0
"""Time without a late picture after which one more step per block is tried."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moment:
    """What is shown and heard for 40 ms."""

    index: int
    """0 for the session's first."""
    image: Pixels
    sound: Pcm
    """`(960,)` at 24 kHz."""
    state: State
    is_repeat: bool
    """Whether the picture is the one before, for want of its own."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Order:
    """A block of pictures to be made."""

    interrupts: bool
    """Whether all sound that the stream still holds is to be forgotten first."""
    num_skipped_blocks: int
    """Blocks to pass over, before this one, without making their pictures."""
    sound: Pcm
    """To be pushed, for the blocks passed over and this one."""
    state: State
    num_steps: int
    epoch: int
    wanted_at_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechEvent:
    """Something that happened to an utterance."""

    id: str
    kind: Literal["started", "finished", "cancelled"]
    played_s: float


class Timeline:
    """A session's sound and pictures, past the queue and before the transports. Safe to use from several threads."""

    def __init__(self, *, block_latents: int, num_steps: int, cushion_s: float = 0.2) -> None:
        self._block_latents = block_latents
        self._lock = threading.Lock()
        self._queue = SpeechQueue(round(cushion_s * SOUND_RATE_HZ))
        self._base = 0  # sample of the timeline at which `_sound` begins
        self._sound = np.zeros(0, np.int16)  # placed, not yet played
        self._unheard = np.zeros(0, np.int16)  # placed, not yet pushed to the stream
        self._ready: deque[tuple[int, Pixels, State]] = deque()
        self._last: Pixels | None = None
        self._state: State = "idle"
        self._started_at_s: float | None = None
        self._stopped_at_s: float | None = None
        self._next_index = 0  # of the moment to be played next
        self._num_made = 0  # pictures on the stream's own clock
        self._shift = 0  # moment of a picture, less its number on the stream's own clock
        self._num_pushed = 0  # samples, on the stream's own clock, at 24 kHz
        self._epoch = 0
        self._is_interrupted = False
        self._durations_s: deque[float] = deque([_FIRST_GUESS_S], maxlen=8)
        self._delivered_at_s = float("-inf")
        self._late_at_s = float("-inf")
        self._most_steps = self.num_steps = num_steps
        self._state_wish: State | None = None
        self._is_listening = False
        self.num_repeated = 0
        """Pictures shown again for want of the next."""
        self.num_skipped = 0
        """Pictures that were never made, to catch up."""
        self.num_late = 0
        """Pictures that were made and came too late."""
        self.block_s = 0.0
        """What the last block took, from when it was wanted."""

    # What the session asks

    def speak(self, id: str, samples: Pcm) -> None:
        """Queue sound of utterance `id`."""
        with self._lock:
            self._queue.push(id, samples)

    def complete(self, id: str) -> None:
        """Utterance `id` has all its sound."""
        with self._lock:
            self._queue.complete(id)

    def listen(self, is_listening: bool) -> None:
        """Whether somebody talks to the avatar: it then listens, unless it speaks."""
        self._is_listening = is_listening

    def wish_state(self, state: State | None) -> None:
        """A state to hold, or None for the one that follows from what happens."""
        self._state_wish = state

    def interrupt(self) -> list[SpeechEvent]:
        """Say nothing of what is queued, and nothing more of what is placed. Pictures made for it are replaced as soon as others
        can be."""
        with self._lock:
            self._sound[:_FADE_SAMPLES] = self._sound[:_FADE_SAMPLES] * np.linspace(1, 0, len(self._sound[:_FADE_SAMPLES]))
            self._sound[_FADE_SAMPLES:] = 0
            self._is_interrupted = True
            self._epoch += 1
            return [_event(utterance, "cancelled") for utterance in self._queue.clear()]

    @property
    def queued_s(self) -> float:
        """Speech that waits to be said."""
        with self._lock:
            return self._queue.num_waiting / SOUND_RATE_HZ

    @property
    def has_speech(self) -> bool:
        """Whether something is being said, or waits to be."""
        with self._lock:
            return bool(self._queue.utterances)

    @property
    def lead_s(self) -> float:
        """How long before its moment a block is begun."""
        return min(_MAX_LEAD_S, 1.25 * max(self._durations_s) + MOMENT_S)

    @property
    def is_running(self) -> bool:
        """Whether moments are being played."""
        return self._started_at_s is not None and self._stopped_at_s is None

    def buffered_s(self, now_s: float) -> float:
        """Pictures that are ready, in seconds from now."""
        with self._lock:
            if self._started_at_s is None:
                return len(self._ready) * MOMENT_S
            return max(0.0, self._due_s(self._num_made + self._shift) - now_s)

    def stop(self, now_s: float) -> None:
        """Stand still: nobody watches."""
        with self._lock:
            if self.is_running:
                self._stopped_at_s = now_s

    def go_on(self, now_s: float) -> None:
        """Run again."""
        with self._lock:
            if self._started_at_s is not None and self._stopped_at_s is not None:
                self._started_at_s += now_s - self._stopped_at_s
            self._stopped_at_s = None

    # What the maker of pictures asks

    def wanted_in_s(self, now_s: float) -> float:
        """Seconds until the next block is wanted; 0 if now."""
        with self._lock:
            return self._wanted_in_s(now_s)

    def due_in_s(self, now_s: float) -> float:
        """Seconds until the next picture to be made is due. Who is interrupted comes before all others."""
        with self._lock:
            if self._is_interrupted:
                return float("-inf")
            return self._due_s(self._num_made + self._shift) - now_s if self.is_running else self.lead_s

    def order(self, now_s: float) -> Order | None:
        """The next block to be made, if it is wanted now. `deliver` must follow."""
        with self._lock:
            if self._wanted_in_s(now_s) > 0:
                return None
            is_at_once = self._started_at_s is None or self._is_interrupted
            wanted_at_s = max(self._delivered_at_s, now_s if is_at_once else now_s + min(0.0, self._slack_s(now_s)))
            interrupts, self._is_interrupted = self._is_interrupted, False
            if interrupts:
                self._turn_silent(now_s)
            num_skipped = 0
            while self._num_made and self._started_at_s is not None and self._is_hopeless(num_skipped, now_s):
                num_skipped += 1
            if num_skipped:
                self._was_late(now_s)
            num_latents = latents_of_frames(self._num_made) + (num_skipped + 1) * self._block_latents
            num_needed = _at_sound_rate(samples_needed(frames_of_latents(num_latents))) + _GUARD_SAMPLES - self._num_pushed
            self._place(num_needed - len(self._unheard))
            sound, self._unheard = self._unheard[:num_needed], self._unheard[num_needed:]
            self._num_pushed += len(sound)
            self._num_made += num_skipped * self._block_latents * FRAMES_PER_LATENT
            self.num_skipped += num_skipped * self._block_latents * FRAMES_PER_LATENT
            return Order(
                interrupts=interrupts,
                num_skipped_blocks=num_skipped,
                sound=sound,
                state=self._next_state(),
                num_steps=self.num_steps,
                epoch=self._epoch,
                wanted_at_s=wanted_at_s,
            )

    def deliver(self, order: Order, images: list[Pixels], now_s: float) -> None:
        """The pictures of `order`, in order."""
        with self._lock:
            first = self._num_made + self._shift
            self._num_made += len(images)
            self.block_s = now_s - order.wanted_at_s
            self._durations_s.append(self.block_s)
            self._delivered_at_s = now_s
            if order.epoch != self._epoch:
                return  # made for speech that was interrupted meanwhile
            for index, image in enumerate(images, first):
                if index >= self._next_index:
                    self._ready.append((index, image, order.state))
                else:
                    self.num_late += 1
                    self._was_late(now_s)
            if self._started_at_s is None and len(self._ready) * MOMENT_S >= self.lead_s:
                self._started_at_s = now_s
            elif now_s - self._late_at_s > _CALM_S and self.num_steps < self._most_steps:
                self.num_steps += 1
                self._late_at_s = now_s

    # What the transports get

    def next_due_s(self, now_s: float) -> float:
        """Seconds until the next moment is due; a short while if nothing is."""
        with self._lock:
            return max(0.0, self._due_s(self._next_index) - now_s) if self.is_running else MOMENT_S / 2

    def play(self, now_s: float) -> tuple[list[Moment], list[SpeechEvent]]:
        """The moments that have become due, and what they meant for utterances."""
        moments: list[Moment] = []
        events: list[SpeechEvent] = []
        with self._lock:
            if not self.is_running or self._started_at_s is None:
                return moments, events
            num_due = int((now_s - self._started_at_s) * FRAME_RATE + 1e-6) + 1 - self._next_index
            if num_due > _STALL_MOMENTS:
                self._started_at_s += (num_due - 1) * MOMENT_S
                num_due = 1
            for _ in range(num_due):
                moments.append(self._play_one(now_s))
                events += self._progress()
        return moments, events

    # Parts; the lock is held

    def _due_s(self, index: int) -> float:
        return (self._started_at_s or 0.0) + index * MOMENT_S

    def _slack_s(self, now_s: float) -> float:
        """Time left until the next block has to be begun."""
        return self._due_s(self._num_made + self._shift) - self.lead_s - now_s

    def _wanted_in_s(self, now_s: float) -> float:
        if self._stopped_at_s is not None:
            return float("inf")
        if self._started_at_s is None or self._is_interrupted:
            return 0.0
        return max(0.0, self._slack_s(now_s))

    def _is_hopeless(self, num_skipped: int, now_s: float) -> bool:
        """Whether even the last picture of the block would come too late, as things went lately."""
        last = self._num_made + self._shift + (num_skipped + 1) * self._block_latents * FRAMES_PER_LATENT - 1
        return self._due_s(last) < now_s + min(self._durations_s)

    def _was_late(self, now_s: float) -> None:
        """First fewer steps; pictures are repeated in any case."""
        if now_s - self._late_at_s > 1.0:
            self.num_steps = max(1, self.num_steps - 1)
        self._late_at_s = now_s

    def _turn_silent(self, now_s: float) -> None:
        """The next picture goes where it can be shown soonest, and what was made for that place is dropped."""
        if self._started_at_s is not None:
            soonest = int((now_s - self._started_at_s + min(self._durations_s)) * FRAME_RATE) + 2
            self._shift = min(self._num_made + self._shift, max(soonest, self._next_index)) - self._num_made
        first = self._num_made + self._shift
        self._ready = deque(entry for entry in self._ready if entry[0] < first)
        self._num_pushed = _at_sound_rate(samples_needed(self._num_made))
        self._unheard = np.zeros(0, np.int16)
        num_placed = self._num_pushed + self._shift * SAMPLES_PER_MOMENT - self._base
        self._sound = np.concatenate([self._sound, np.zeros(max(0, num_placed - len(self._sound)), np.int16)])[
            : max(0, num_placed)
        ]

    def _place(self, num_samples: int) -> None:
        """Decide what the next samples are: speech that is due, or silence."""
        if num_samples > 0:
            piece = self._queue.take(num_samples, self._base + len(self._sound))
            self._sound, self._unheard = np.concatenate([self._sound, piece]), np.concatenate([self._unheard, piece])

    def _next_state(self) -> State:
        if self._state_wish is not None:
            return self._state_wish
        first = (self._num_made + self._shift) * SAMPLES_PER_MOMENT
        if any(one.starts_at is not None and (one.num_waiting or one.ends_at > first) for one in self._queue.utterances):
            return "speaking"
        return "listening" if self._is_listening else "idle"

    def _play_one(self, now_s: float) -> Moment:
        while self._ready and self._ready[0][0] < self._next_index:
            self._ready.popleft()
            self.num_late += 1
        is_repeat = not self._ready or self._ready[0][0] > self._next_index
        if not is_repeat:
            _, self._last, self._state = self._ready.popleft()
        else:
            self.num_repeated += 1
        assert self._last is not None, "a timeline starts with its first picture"
        num_missing = SAMPLES_PER_MOMENT - len(self._sound)
        if self._is_interrupted:
            self._sound = np.pad(self._sound, (0, max(0, num_missing)))
        else:
            self._place(num_missing)  # so late that not even sound was placed
        sound, self._sound = self._sound[:SAMPLES_PER_MOMENT], self._sound[SAMPLES_PER_MOMENT:]
        self._base += SAMPLES_PER_MOMENT
        self._next_index += 1
        return Moment(index=self._next_index - 1, image=self._last, sound=sound, state=self._state, is_repeat=is_repeat)

    def _progress(self) -> list[SpeechEvent]:
        events = []
        for utterance in list(self._queue.utterances):
            if utterance.starts_at is not None:
                utterance.num_played = max(0, min(self._base, utterance.ends_at) - utterance.starts_at)
                if utterance.num_played and not utterance.is_started:
                    utterance.is_started = True
                    events.append(_event(utterance, "started"))
            if utterance.is_complete and not utterance.num_waiting and self._base >= utterance.ends_at:
                self._queue.utterances.remove(utterance)
                events.append(_event(utterance, "finished"))
        return events


def _event(utterance: Utterance, kind: Literal["started", "finished", "cancelled"]) -> SpeechEvent:
    return SpeechEvent(id=utterance.id, kind=kind, played_s=utterance.num_played / SOUND_RATE_HZ)


def _at_sound_rate(num_samples: int) -> int:
    return -(-num_samples * SOUND_RATE_HZ // SAMPLE_RATE_HZ)
