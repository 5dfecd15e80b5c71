"""A session's sound: what waits to be said, what is placed on the timeline, what has been played.

Two readers follow each other along it: the stream, which hears sound before it makes pictures of it, and the listener.
`N` samples mono int16 at 24 kHz; places are samples of the timeline.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from vivavoz.serve.moments import SpeechEvent
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, Pcm, SpeechQueue, Utterance

_FADE_SAMPLES = SOUND_RATE_HZ // 200
"""Sound that is cut off fades within 5 ms."""
_NO_SOUND = np.zeros(0, np.int16)


class SoundTrack:
    """Sound on the timeline. Not safe to use from several threads."""

    def __init__(self, cushion_s: float) -> None:
        """`cushion_s`: see `SpeechQueue`."""
        self.queue = SpeechQueue(cushion_s)
        # `_sound` is not yet played, from place `_played` on; `_unheard` is not yet heard by the stream. Both end at `placed`.
        self._played = 0
        self._sound: Pcm = _NO_SOUND
        self._unheard: Pcm = _NO_SOUND

    @property
    def placed(self) -> int:
        """Where what is decided to be played ends."""
        return self._played + len(self._sound)

    def place_until(self, end: int, now_s: float) -> None:
        """Decide what is played up to `end`: speech that is due, or silence."""
        if end > self.placed:
            piece = self.queue.take(end - self.placed, self.placed, now_s)
            self._sound = np.concatenate([self._sound, piece])
            self._unheard = np.concatenate([self._unheard, piece])

    def hear_until(self, end: int, now_s: float) -> Pcm:
        """What the stream has not heard, up to `end`."""
        self.place_until(end, now_s)
        cut = len(self._unheard) - (self.placed - end)
        heard, self._unheard = self._unheard[:cut], self._unheard[cut:]
        return heard

    def hear_from(self, start: int, now_s: float) -> None:
        """The stream begins anew: what it hears next is what is played from `start` on."""
        self.place_until(start, now_s)
        self._unheard = self._sound[start - self._played :]

    def defer(self, num_samples: int) -> bool:
        """The stream does not hear the next `num_samples`, which are silence, so that all after them belongs to pictures later
        by as much. Whether that could be done: not if something is said in them."""
        if self._unheard[:num_samples].any():
            return False
        self._sound = np.pad(self._sound, (0, max(0, num_samples - len(self._unheard))))
        self._unheard = self._unheard[num_samples:]
        return True

    def interrupt(self) -> list[SpeechEvent]:
        """Say nothing of what is queued; what is placed falls silent."""
        num_faded = min(_FADE_SAMPLES, len(self._sound))
        faded = (self._sound[:num_faded] * np.linspace(1, 0, num_faded)).astype(np.int16)
        self._sound = np.pad(faded, (0, len(self._sound) - num_faded))
        return [_event(utterance, "cancelled") for utterance in self.queue.clear()]

    def cut(self, end: int) -> None:
        """Nothing beyond `end` is placed any more."""
        self._sound = self._sound[: max(0, end - self._played)]

    def play(self, now_s: float, *, is_interrupted: bool) -> Pcm:
        """The next moment's sound (960,). Between an interruption and the stream's new beginning nothing new is placed."""
        if is_interrupted:
            self._sound = np.pad(self._sound, (0, max(0, SAMPLES_PER_MOMENT - len(self._sound))))
        self.place_until(self._played + SAMPLES_PER_MOMENT, now_s)  # so late that not even sound was placed
        sound, self._sound = self._sound[:SAMPLES_PER_MOMENT], self._sound[SAMPLES_PER_MOMENT:]
        self._played += SAMPLES_PER_MOMENT
        return sound

    def is_speech_at(self, place: int) -> bool:
        """Whether something is being said there, or waits to go on."""
        return any(
            utterance.starts_at is not None and (utterance.num_waiting or utterance.ends_at > place)
            for utterance in self.queue.utterances
        )

    def progress(self) -> list[SpeechEvent]:
        """Utterances that have begun or ended since the last call."""
        events = []
        for utterance in list(self.queue.utterances):
            if utterance.starts_at is not None:
                utterance.num_played = max(0, min(self._played, utterance.ends_at) - utterance.starts_at)
                if utterance.num_played and not utterance.is_started:
                    utterance.is_started = True
                    events.append(_event(utterance, "started"))
            if utterance.is_complete and not utterance.num_waiting and self._played >= utterance.ends_at:
                self.queue.utterances.remove(utterance)
                events.append(_event(utterance, "finished"))
        return events


def _event(utterance: Utterance, kind: Literal["started", "finished", "cancelled"]) -> SpeechEvent:
    return SpeechEvent(id=utterance.id, kind=kind, played_s=utterance.num_played / SOUND_RATE_HZ)
