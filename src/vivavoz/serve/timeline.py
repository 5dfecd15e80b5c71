"""One clock for sound and picture: what is said and shown when, what is to be made next, and what is given up when it is late.

Time runs in moments of 40 ms: 960 samples at 24 kHz and one picture. Sound is the master: it is played at the pace of the
clock, whatever becomes of the pictures. A picture belongs to the sound it was made from, and is shown at that moment or never.
No thread, socket or model in here; every method takes the time as an argument. docs/adr/0010 has the reasons.

`N` samples mono int16; `H W 3` pictures uint8 RGB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from vivavoz.audio.alignment import samples_needed
from vivavoz.engine.controls import State
from vivavoz.media.image import Pixels
from vivavoz.serve.ladder import Ladder, rungs
from vivavoz.serve.moments import Moment, Order, SpeechEvent
from vivavoz.serve.pace import Pace, Progress
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, Pcm
from vivavoz.serve.sound_track import SoundTrack
from vivavoz.timing import FRAME_RATE, FRAMES_PER_LATENT, SAMPLE_RATE_HZ, frames_of_latents

MOMENT_S = 1 / FRAME_RATE
LATENT_S = FRAMES_PER_LATENT * MOMENT_S

_GUARD_SAMPLES = SOUND_RATE_HZ * 3 // 1000
"""Beyond what hearing needs: the reach of the resampler's filter."""
_MAX_LEAD_S = 1.5
_CATCHES_UP_S = 1.0
"""Time after an interruption in which late pictures do not tell that the machine is too slow: they are wanted at once."""
_STALL_MOMENTS = FRAME_RATE
"""A clock that stood still for longer goes on from where it stood, and does not rush."""
_MOST_SKIPPED = FRAME_RATE
"""Pictures that are left out at most with their sound still heard; hearing more of it would only make things later."""


class Timeline:
    """A session's sound and pictures, past the queue and before the transports. Safe to use from several threads."""

    def __init__(
        self,
        *,
        block_latents: int,
        num_steps: int,
        quick_block_latents: int | None = None,
        slow_block_latents: int | None = None,
        jitter_s: float = 0.08,
    ) -> None:
        """`block_latents` and `num_steps` are the usual ones. `quick_block_latents`: of the first block after an interruption;
        `slow_block_latents`: the most when the machine is too slow. None: always the usual ones."""
        self._quick_latents = quick_block_latents or block_latents
        self._ladder = Ladder(rungs(num_steps, block_latents, slow_block_latents or block_latents))
        self._lock = threading.Lock()
        # Sound is taken in pieces as long as a block, so a slow sender has to be ahead by one.
        self._sound = SoundTrack(block_latents * LATENT_S + jitter_s)
        # Pictures: `_to_play` is the next moment, `_to_make` the next picture; `_num_run` were made since the last restart.
        self._ready: deque[tuple[int, Pixels, State]] = deque()
        self._last: Pixels | None = None
        self._state: State = "idle"
        self._to_play = self._to_make = self._num_run = 0
        self._is_first_block = True
        # The clock: when moment 0 was, or would have been.
        self._zero_s: float | None = None
        self._stopped_at_s: float | None = None
        self._epoch = 0
        self._is_interrupted = False
        self._interrupted_at_s = float("-inf")
        self._pace = Pace(block_latents)
        self._last_latents = block_latents
        self._delivered_at_s = float("-inf")
        self._block = Progress()
        self._watched_at_s: float | None = None
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

    def speak(self, id: str, samples: Pcm, now_s: float) -> None:
        """Queue sound of utterance `id`."""
        with self._lock:
            self._sound.queue.push(id, samples, now_s)

    def complete(self, id: str) -> None:
        """Utterance `id` has all its sound."""
        with self._lock:
            self._sound.queue.complete(id)

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
            self._is_interrupted = True
            self._epoch += 1
            return self._sound.interrupt()

    @property
    def queued_s(self) -> float:
        """Speech that waits to be said."""
        with self._lock:
            return self._sound.queue.num_waiting / SOUND_RATE_HZ

    @property
    def has_speech(self) -> bool:
        """Whether something is being said, or waits to be."""
        with self._lock:
            return bool(self._sound.queue.utterances)

    @property
    def level(self) -> int:
        """How much is given up for speed; 0 is nothing."""
        return self._ladder.level

    @property
    def num_steps(self) -> int:
        """Euler steps of a block."""
        return self._ladder.rung.num_steps

    @property
    def block_latents(self) -> int:
        """Latents of a block."""
        return self._ladder.rung.block_latents

    @property
    def lead_s(self) -> float:
        """How long before its moment a block is begun."""
        return min(_MAX_LEAD_S, 1.25 * self._pace.wait_s(self.block_latents) + MOMENT_S)

    @property
    def is_running(self) -> bool:
        """Whether moments are being played."""
        return self._zero_s is not None and self._stopped_at_s is None

    def buffered_s(self, now_s: float) -> float:
        """Pictures that are ready, in seconds from now."""
        with self._lock:
            return max(0.0, self._due_s(self._to_make) - now_s) if self.is_running else len(self._ready) * MOMENT_S

    def stop(self, now_s: float) -> None:
        """Stand still: nobody watches."""
        with self._lock:
            if self._stopped_at_s is None:
                self._stopped_at_s = now_s

    def go_on(self, now_s: float) -> None:
        """Run again."""
        with self._lock:
            if self._zero_s is not None and self._stopped_at_s is not None:
                self._zero_s += now_s - self._stopped_at_s
            self._stopped_at_s = None
            self._watched_at_s = now_s

    # What the maker of pictures asks

    def wanted_in_s(self, now_s: float) -> float:
        """Seconds until the next block is wanted; 0 if now."""
        with self._lock:
            return self._wanted_in_s(now_s)

    def due_in_s(self, now_s: float) -> float:
        """Seconds until the next picture to be made is due. Who is interrupted comes before all others; who waits for a first
        picture is pressed more the longer that is."""
        with self._lock:
            if self._is_interrupted:
                return float("-inf")
            if self._zero_s is None:
                return self.lead_s - (0.0 if self._watched_at_s is None else now_s - self._watched_at_s)
            return self._due_s(self._to_make) - now_s

    def order(self, now_s: float) -> Order | None:
        """The next block to be made, if it is wanted now. `deliver` of its pictures and `complete_order` must follow."""
        with self._lock:
            if self._wanted_in_s(now_s) > 0:
                return None
            is_at_once = self._zero_s is None or self._is_interrupted
            wanted_at_s = max(self._delivered_at_s, now_s if is_at_once else now_s + min(0.0, self._slack_s(now_s)))
            self._block = Progress()
            restarts, num_skipped = self._is_interrupted, 0
            if restarts:
                self._go_back(now_s)
            elif self._zero_s is not None and (num_skipped := self._soonest(now_s) - self._to_make) > 0:
                restarts = self._go_ahead(num_skipped, now_s)
            num_skipped = 0 if restarts else max(0, num_skipped)
            block_latents = self._last_latents = self._quick_latents if restarts else self._next_latents(now_s)
            return Order(
                restarts=restarts,
                num_skipped=num_skipped,
                sound=self._sound.hear_until(self._sound_needed(block_latents), now_s),
                state=self._next_state(),
                num_steps=self.num_steps,
                block_latents=block_latents,
                epoch=self._epoch,
                wanted_at_s=wanted_at_s,
                ordered_at_s=now_s,
            )

    def deliver(self, order: Order, images: Sequence[Pixels], now_s: float) -> None:
        """The next pictures of `order`; those of a block that was given up because of an interruption may be missing."""
        with self._lock:
            if images and order.restarts and order.epoch == self._epoch:
                self._defer_rest(order)
            first = self._to_make
            self._to_make += len(images)
            self._num_run += len(images)
            if images:
                self._is_first_block = False
                self._block.add(len(images), now_s - order.ordered_at_s)
            if order.epoch != self._epoch:
                return  # made for speech that was interrupted meanwhile
            for index, image in enumerate(images, first):
                if index >= self._to_play:
                    self._ready.append((index, image, order.state))
                else:
                    self.num_late += 1
                    self._was_late(now_s)
            if self._zero_s is None and len(self._ready) * MOMENT_S >= self.lead_s:
                self._zero_s = now_s

    def complete_order(self, order: Order, now_s: float) -> None:
        """`order` is dealt with: all its pictures were delivered, or it was given up."""
        with self._lock:
            self._delivered_at_s = now_s
            self.block_s = now_s - order.wanted_at_s
            if order.epoch != self._epoch or not self._block.num_pictures:
                return  # given up, and no measure of what a whole block takes
            start_s, queued_s = self._block.start_s, order.ordered_at_s - order.wanted_at_s
            making_s = now_s - order.ordered_at_s
            if order.restarts:
                self._pace.was_quick(first_s=self._block.first_s, start_s=start_s)
            else:
                self._pace.was(order.block_latents, wait_s=queued_s + start_s, start_s=start_s, making_s=making_s)
            self._ladder.went_well(now_s, busy=self._pace.making_s(self.block_latents) / (self.block_latents * LATENT_S))

    # What the transports get

    def next_due_s(self, now_s: float) -> float:
        """Seconds until the next moment is due; a short while if nothing is."""
        with self._lock:
            return max(0.0, self._due_s(self._to_play) - now_s) if self.is_running else MOMENT_S / 2

    def play(self, now_s: float) -> tuple[list[Moment], list[SpeechEvent]]:
        """The moments that have become due, and what they meant for utterances."""
        moments: list[Moment] = []
        events: list[SpeechEvent] = []
        with self._lock:
            if not self.is_running or self._zero_s is None:
                return moments, events
            num_due = int((now_s - self._zero_s) * FRAME_RATE + 1e-6) + 1 - self._to_play
            if num_due > _STALL_MOMENTS:
                self._zero_s += (num_due - 1) * MOMENT_S
                num_due = 1
            for _ in range(num_due):
                moments.append(self._play_one(now_s))
                events += self._sound.progress()
        return moments, events

    # Parts; the lock is held

    def _due_s(self, index: int) -> float:
        return (self._zero_s or 0.0) + index * MOMENT_S

    def _slack_s(self, now_s: float) -> float:
        """Time left until the next block has to be begun."""
        return self._due_s(self._to_make) - self.lead_s - now_s

    def _wanted_in_s(self, now_s: float) -> float:
        if self._stopped_at_s is not None:
            return float("inf")
        if self._zero_s is None or self._is_interrupted:
            return 0.0
        return max(0.0, self._slack_s(now_s))

    def _sound_needed(self, block_latents: int) -> int:
        """Sample of the timeline up to which the stream has to hear to make the next block."""
        num_frames = frames_of_latents(block_latents) if self._is_first_block else block_latents * FRAMES_PER_LATENT
        num_needed = -(-samples_needed(self._num_run + num_frames) * SOUND_RATE_HZ // SAMPLE_RATE_HZ) + _GUARD_SAMPLES
        return (self._to_make - self._num_run) * SAMPLES_PER_MOMENT + num_needed

    @property
    def _wanted_latents(self) -> int:
        """The next block's size by speed alone: after a restart it grows again."""
        return min(self.block_latents, 2 * self._last_latents)

    def _next_latents(self, now_s: float) -> int:
        """The next block's size: not so large that speech that comes in slowly would be cut."""
        size = self._wanted_latents
        while size > self._quick_latents and not self._sound.queue.lasts(self._sound_needed(size) - self._sound.placed, now_s):
            size //= 2
        return size

    def _soonest(self, now_s: float) -> int:
        """The first moment that a picture can be there for, as things went lately."""
        if self._zero_s is None:
            return self._to_play
        if self._is_interrupted:
            start_s = self._pace.quick_start_s(self._quick_latents, can_wait=not self._sound.queue.utterances)
        else:
            start_s = self._pace.start_s(self._wanted_latents)
        return max(self._to_play, int((now_s - self._zero_s + start_s) * FRAME_RATE) + 1)

    def _go_back(self, now_s: float) -> None:
        """After an interruption: what was made for later than the next block can be shown is not wanted any more."""
        start = self._soonest(now_s)
        self._ready = deque(entry for entry in self._ready if entry[0] < start)
        self._sound.cut(start * SAMPLES_PER_MOMENT)
        self.num_skipped += max(0, start - self._to_make)
        self._is_interrupted = False
        self._interrupted_at_s = now_s
        self._restart(start, now_s)

    def _defer_rest(self, order: Order) -> None:
        """Pictures of silence after an interruption that have missed their moments belong as well to later silence."""
        num_late = self._to_play - self._to_make
        if num_late > 0 and not order.sound.any() and self._sound.defer(num_late * SAMPLES_PER_MOMENT):
            self._to_make = self._to_play

    def _was_late(self, now_s: float) -> None:
        if now_s - self._interrupted_at_s > _CATCHES_UP_S:
            self._ladder.was_late(now_s, self.block_s)

    def _go_ahead(self, num_frames: int, now_s: float) -> bool:
        """Leave out pictures that would come too late; whether there are so many that the stream restarts behind them."""
        self.num_skipped += num_frames
        self._was_late(now_s)
        if num_frames > _MOST_SKIPPED:
            self._restart(self._to_make + num_frames, now_s)
            return True
        self._to_make += num_frames
        self._num_run += num_frames
        return False

    def _restart(self, start: int, now_s: float) -> None:
        """The next picture is that of moment `start`, and the stream hears the sound from there on."""
        self._to_make, self._num_run = start, 0
        self._sound.hear_from(start * SAMPLES_PER_MOMENT, now_s)

    def _next_state(self) -> State:
        if self._state_wish is not None:
            return self._state_wish
        if self._sound.is_speech_at(self._to_make * SAMPLES_PER_MOMENT):
            return "speaking"
        return "listening" if self._is_listening else "idle"

    def _play_one(self, now_s: float) -> Moment:
        while self._ready and self._ready[0][0] < self._to_play:
            self._ready.popleft()
            self.num_late += 1
        is_repeat = not self._ready or self._ready[0][0] > self._to_play
        if is_repeat:
            self.num_repeated += 1
        else:
            _, self._last, self._state = self._ready.popleft()
        assert self._last is not None, "a timeline starts with its first picture"
        sound = self._sound.play(now_s, is_interrupted=self._is_interrupted)
        self._to_play += 1
        return Moment(index=self._to_play - 1, image=self._last, sound=sound, state=self._state, is_repeat=is_repeat)
