"""The timeline on a clock of the test's own: no threads, no model, no waiting."""

from __future__ import annotations

import numpy as np
import pytest

from tests.serving import tone
from vivavoz.media.image import Pixels
from vivavoz.serve.moments import Moment, Order, SpeechEvent
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, Pcm
from vivavoz.serve.timeline import MOMENT_S, Timeline


class Stage:
    """A timeline, a clock, and a maker of pictures that takes `block_s` for a usual block.

    A quarter of that is for every block, the rest for each of its pictures, of which two come at a time. A picture is three
    numbers: the order it came from, how often the stream was restarted, and how many pictures of that stream came before it.
    """

    def __init__(self, block_s: float = 0.05, block_latents: int = 1, num_steps: int = 4, slow_block_latents: int = 1) -> None:
        self.timeline = Timeline(
            block_latents=block_latents, num_steps=num_steps, quick_block_latents=1, slow_block_latents=slow_block_latents
        )
        self.block_s = block_s
        self.block_latents = block_latents
        self.now_s = 100.0
        self.moments: list[Moment] = []
        self.events: list[tuple[float, SpeechEvent]] = []
        self.orders: list[Order] = []
        self.heard: list[Pcm] = [np.zeros(0, np.int16)]
        """What the stream was pushed since each restart."""
        self._job: Order | None = None
        self._parts: list[tuple[float, list[Pixels]]] = []
        """Of the job: what comes when; with the last of them it is done."""
        self._num_made = self._at = 0

    def run(self, seconds: float) -> None:
        """Let time pass, 5 ms at a time."""
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s += 0.005
            while self._job is not None and self.now_s >= self._parts[0][0]:
                _, pictures = self._parts.pop(0)
                if pictures:
                    self.timeline.deliver(self._job, pictures, self.now_s)
                if not self._parts:
                    self.timeline.complete_order(self._job, self.now_s)
                    self._job = None
            if self._job is None and (order := self.timeline.order(self.now_s)) is not None:
                self._begin(order)
            moments, events = self.timeline.play(self.now_s)
            self.moments += moments
            self.events += [(self.now_s, event) for event in events]

    def interrupt(self) -> list[SpeechEvent]:
        """What is being made is given up within 10 ms."""
        if self._job is not None:
            self._parts = [(min(self._parts[0][0], self.now_s + 0.01), [])]
        return self.timeline.interrupt()

    def check_that_pictures_belong_to_their_sound(self) -> None:
        """Every picture that was shown for the first time was made of the sound that it was shown with."""
        starts: dict[int, int] = {}
        for moment in self.moments:
            if not moment.is_repeat:
                _, stream, number = map(int, moment.image[0, 0])
                heard = self.heard[stream][number * SAMPLES_PER_MOMENT : (number + 1) * SAMPLES_PER_MOMENT]
                # Sound of pictures that were there when it was interrupted has become silence.
                assert np.array_equal(heard, moment.sound) or not moment.sound[SOUND_RATE_HZ // 200 :].any()
                # A stream goes on later than it began only in silence.
                delay = moment.index - number - starts.setdefault(stream, moment.index - number)
                assert delay == 0 or (delay > 0 and not heard.any())
                starts[stream] += delay

    def say(self, samples: Pcm, id: str = "a") -> None:
        self.timeline.speak(id, samples, self.now_s)
        self.timeline.complete(id)

    @property
    def sound(self) -> Pcm:
        return np.concatenate([moment.sound for moment in self.moments])

    def _begin(self, order: Order) -> None:
        self.orders.append(order)
        if order.restarts:
            self.heard.append(np.zeros(0, np.int16))
            self._at = 0
        self._at += order.num_skipped
        self.heard[-1] = np.concatenate([self.heard[-1], order.sound])
        pictures = self._pictures(order)
        each_s = 0.75 * self.block_s / (4 * self.block_latents)
        self._parts = [
            (self.now_s + 0.25 * self.block_s + each_s * (i + len(pictures[i : i + 2])), pictures[i : i + 2])
            for i in range(0, len(pictures), 2)
        ]
        self._job = order

    def _pictures(self, order: Order) -> list[Pixels]:
        num = 4 * order.block_latents - (0 if self._num_made else 3)
        self._num_made += num
        first, self._at = self._at, self._at + num
        return [np.full((2, 2, 3), (len(self.orders), len(self.heard) - 1, first + i)) for i in range(num)]  # type: ignore[misc]


def test_it_idles_at_the_pace_of_the_clock() -> None:
    stage = Stage()
    stage.run(10)
    assert [moment.index for moment in stage.moments] == list(range(len(stage.moments)))
    assert abs(len(stage.moments) - 10 / MOMENT_S) < 15  # but for the start
    assert stage.timeline.num_repeated == stage.timeline.num_skipped == stage.timeline.num_late == 0
    assert not stage.sound.any()
    assert {moment.state for moment in stage.moments} == {"idle"}


def test_who_waits_for_a_first_picture_comes_before_those_who_are_late_soon() -> None:
    waiting, late = Stage().timeline, Stage(block_s=0.6)
    waiting.go_on(100)
    assert waiting.due_in_s(100) > 0
    late.run(10)
    late_by_s = -late.timeline.due_in_s(late.now_s)
    assert waiting.due_in_s(100 + waiting.lead_s + late_by_s + 0.1) < late.timeline.due_in_s(late.now_s)


def test_nothing_is_played_before_the_first_pictures_are_there() -> None:
    stage = Stage(block_s=0.5)
    stage.run(0.9)
    assert stage.moments == []
    stage.run(2)
    assert not stage.moments[0].is_repeat


@pytest.mark.parametrize("block_latents", [1, 2, 4])
def test_speech_is_played_whole_and_heard_where_it_is_played(block_latents: int) -> None:
    stage = Stage(block_latents=block_latents)
    stage.run(2)
    speech = tone(1.7)
    stage.say(speech)
    stage.run(5)
    start = int(np.flatnonzero(stage.sound)[0]) - 1  # a tone begins with a zero
    assert np.array_equal(stage.sound[start : start + len(speech)], speech)
    assert not stage.sound[start + len(speech) :].any()
    # The stream was never restarted: its clock is the timeline's, to the sample.
    heard = stage.heard[0]
    assert np.array_equal(heard[: len(stage.sound)], stage.sound)
    assert [(event.kind, event.id) for _, event in stage.events] == [("started", "a"), ("finished", "a")]
    assert stage.events[1][1].played_s == pytest.approx(1.7)


def test_speech_begins_soon_and_the_avatar_speaks_as_long_as_it_lasts() -> None:
    stage = Stage(block_s=0.04)
    stage.run(3)
    asked_s = stage.now_s
    stage.say(tone(1))
    stage.run(3)
    # A block of 160 ms, hearing's look-ahead of 132 ms, the lead, and a moment.
    assert stage.events[0][0] - asked_s < 0.16 + 0.1325 + stage.timeline.lead_s + MOMENT_S
    speaking = [moment for moment in stage.moments if moment.state == "speaking"]
    loud = [moment for moment in stage.moments if np.abs(moment.sound).max() > 1000]
    assert {moment.index for moment in loud} <= {moment.index for moment in speaking}
    assert len(speaking) <= len(loud) + 8


def test_slow_speech_is_not_chopped() -> None:
    """Sound that comes in real time, in small pieces and at uneven times, is played without gaps once it has begun."""
    stage = Stage()
    stage.run(1)
    speech = tone(3)
    start_s, piece = stage.now_s, SOUND_RATE_HZ // 50
    late_s = np.random.default_rng(0).uniform(0, 0.07, len(speech) // piece)
    for index in range(len(speech) // piece):
        stage.run(max(0.0, start_s + 0.02 * index + late_s[index] - stage.now_s))
        stage.timeline.speak("a", speech[index * piece : (index + 1) * piece], stage.now_s)
    stage.timeline.complete("a")
    stage.run(2)
    start = int(np.flatnonzero(stage.sound)[0]) - 1
    assert np.array_equal(stage.sound[start : start + len(speech)], speech)


def test_speech_that_stays_away_turns_into_idle() -> None:
    stage = Stage()
    stage.run(1)
    stage.timeline.speak("a", tone(0.5), stage.now_s)  # no end, and nothing more
    stage.run(4)
    assert stage.moments[-1].state == "speaking" or stage.moments[-1].state == "idle"
    assert stage.timeline.num_repeated == 0
    assert not stage.moments[-1].sound.any()
    stage.timeline.speak("a", tone(0.1), stage.now_s)  # less than the cushion, and no end either
    stage.run(2)
    assert np.count_nonzero(stage.sound) == pytest.approx(0.6 * SOUND_RATE_HZ, rel=0.02)


def test_listening_shows_unless_it_speaks_and_a_wish_wins() -> None:
    stage = Stage()
    stage.timeline.listen(True)
    stage.run(2)
    assert stage.moments[-1].state == "listening"
    stage.say(tone(3))
    stage.run(2)
    assert stage.moments[-1].state == "speaking"
    stage.timeline.wish_state("idle")
    stage.run(1)
    assert stage.moments[-1].state == "idle"


@pytest.mark.parametrize(("block_s", "block_latents"), [(0.04, 1), (0.11, 1), (0.3, 4)])
def test_an_interruption_stops_sound_at_once_and_the_mouth_within_200_ms(block_s: float, block_latents: int) -> None:
    stage = Stage(block_s=block_s, block_latents=block_latents)
    stage.run(2)
    stage.say(tone(10))
    stage.say(tone(1), "b")
    stage.run(3)
    num_before, num_orders, called_s = len(stage.moments), len(stage.orders), stage.now_s
    events = stage.interrupt()
    assert [(event.kind, event.id) for event in events] == [("cancelled", "a"), ("cancelled", "b")]
    assert 2 < events[0].played_s < 3
    stage.run(0.5)
    after = stage.moments[num_before:]
    faded, *silent = after
    assert np.abs(faded.sound[SOUND_RATE_HZ // 200 :]).max() == 0
    assert not any(moment.sound.any() for moment in silent)
    # The first picture made of silence has this order's number or a later one.
    assert stage.orders[num_orders].restarts
    assert stage.orders[num_orders].block_latents == 1
    assert not stage.orders[num_orders].sound.any()
    closing = next(i for i, moment in enumerate(after) if moment.image[0, 0, 0] > num_orders)
    assert closing * MOMENT_S + (stage.now_s - called_s - len(after) * MOMENT_S) < 0.2
    assert stage.timeline.num_repeated <= 4
    assert stage.timeline.level == 0
    stage.check_that_pictures_belong_to_their_sound()


def test_pictures_of_silence_that_miss_their_moments_after_an_interruption_are_shown_at_later_ones() -> None:
    stage = Stage(block_s=0.04)
    stage.run(2)
    for turn in range(3):
        stage.say(tone(10), f"quick {turn}")
        stage.run(2)
        stage.interrupt()
        stage.run(2)
    stage.say(tone(10), "slow")
    stage.run(2)
    num_before, num_orders, called_s = len(stage.moments), len(stage.orders), stage.now_s
    stage.interrupt()
    stage.block_s = 0.2  # its last pictures come when moments after it have passed
    stage.run(0.3)
    after = stage.moments[num_before:]
    closing = next(i for i, moment in enumerate(after) if moment.image[0, 0, 0] > num_orders)
    assert closing * MOMENT_S + (stage.now_s - called_s - len(after) * MOMENT_S) < 0.2
    assert stage.timeline.num_late == 0
    # What is said next is shown with its own sound all the same.
    stage.block_s = 0.04
    speech = np.random.default_rng(0).integers(-9000, 9000, SOUND_RATE_HZ).astype(np.int16)
    stage.say(speech, "next")
    stage.run(2)
    assert sum(moment.sound.any() and not moment.is_repeat for moment in stage.moments[num_before:]) > 20
    stage.check_that_pictures_belong_to_their_sound()


def test_pictures_of_speech_that_miss_their_moments_are_not_shown() -> None:
    stage = Stage(block_s=0.04)
    stage.run(2)
    stage.say(tone(10))
    stage.run(2)
    stage.interrupt()
    stage.say(np.random.default_rng(0).integers(-9000, 9000, 2 * SOUND_RATE_HZ).astype(np.int16), "next")
    stage.block_s = 0.2
    stage.run(2)
    assert stage.timeline.num_late > 0
    stage.check_that_pictures_belong_to_their_sound()


def test_speech_after_an_interruption_is_heard_from_its_first_sample() -> None:
    stage = Stage()
    stage.run(2)
    stage.say(tone(10))
    stage.run(1)
    stage.interrupt()
    stage.say(tone(1, hz=500), "b")
    num_before = len(stage.moments)
    stage.run(3)
    start = (
        int(np.flatnonzero(stage.sound[(num_before + 1) * SAMPLES_PER_MOMENT :])[0]) + (num_before + 1) * SAMPLES_PER_MOMENT - 1
    )
    assert np.array_equal(stage.sound[start : start + SOUND_RATE_HZ], tone(1, hz=500))
    # What the restarted stream hears lies on the timeline where it is played: the next picture's sound comes first.
    heard_start = int(np.flatnonzero(stage.heard[-1])[0]) - 1
    assert (start - heard_start) % SAMPLES_PER_MOMENT == 0


def longest_freeze(moments: list[Moment]) -> int:
    """Most moments in a row with a picture that was shown before."""
    longest = now = 0
    for moment in moments:
        now = now + 1 if moment.is_repeat else 0
        longest = max(longest, now)
    return longest


def test_too_slow_a_maker_gives_up_steps_then_pictures_and_never_sound() -> None:
    stage = Stage(block_s=0.05)
    stage.run(2)
    stage.block_s = 0.3  # for 160 ms of pictures
    speech = tone(6)
    stage.say(speech)
    stage.run(8)
    start = int(np.flatnonzero(stage.sound)[0]) - 1
    assert np.array_equal(stage.sound[start : start + len(speech)], speech)  # whole, and without a gap
    assert (stage.timeline.num_steps, stage.timeline.block_latents) == (1, 1)
    assert stage.timeline.num_skipped > 20
    # Nearly all that is made is shown: 160 ms of every 300, and the rest is spread evenly.
    late = stage.moments[100:]
    assert sum(not moment.is_repeat for moment in late) > 0.9 * len(late) * 160 / 300
    assert longest_freeze(late) <= 6
    stage.check_that_pictures_belong_to_their_sound()
    stage.block_s = 0.02
    stage.run(1)
    num_repeated = stage.timeline.num_repeated
    stage.run(60)
    assert stage.timeline.num_repeated == num_repeated
    assert stage.timeline.level == 0


def test_so_slow_a_maker_that_late_pictures_are_rare_gives_up_steps_too() -> None:
    stage = Stage(block_s=0.05)
    stage.run(2)
    stage.block_s = 30
    stage.run(150)
    assert stage.timeline.num_steps == 1


def test_interruptions_cost_no_steps() -> None:
    """What comes after one is wanted at once, and may be late; that the machine keeps up otherwise is known."""
    rng = np.random.default_rng(0)
    stage = Stage(block_s=0.1)
    stage.run(5)
    levels = set()
    for turn in range(30):
        stage.say(tone(8), id=str(turn))
        stage.run(2)
        stage.interrupt()
        if turn % 2:  # pictures of speech are late where those of silence would wait
            stage.say(tone(1), id=f"answer {turn}")
            stage.block_s = 0.3
            stage.run(0.2)
        for _ in range(40):
            stage.block_s = 0.1 + 0.06 * rng.random()
            stage.run(0.05)
            levels.add(stage.timeline.level)
    assert stage.timeline.num_repeated > 0
    assert stage.timeline.num_late > 0
    assert levels == {0}


def test_where_larger_blocks_keep_time_they_do() -> None:
    stage = Stage(block_s=0.05, slow_block_latents=2)
    stage.run(2)
    stage.block_s = 0.175  # a block of two takes 306 ms of 320
    stage.run(10)
    assert (stage.timeline.num_steps, stage.timeline.block_latents) == (1, 2)
    num_repeated = stage.timeline.num_repeated
    stage.run(30)
    assert stage.timeline.num_repeated == num_repeated
    stage.check_that_pictures_belong_to_their_sound()


def test_larger_blocks_do_not_cut_speech_that_comes_in_slowly() -> None:
    stage = Stage(block_s=0.2, slow_block_latents=4)
    stage.run(10)
    assert stage.timeline.block_latents == 4
    speech = tone(4)
    piece = SOUND_RATE_HZ // 25
    for at in range(0, len(speech), piece):
        stage.timeline.speak("a", speech[at : at + piece], stage.now_s)
        stage.run(0.04)
    stage.timeline.complete("a")
    stage.run(2)
    start = int(np.flatnonzero(stage.sound)[0]) - 1
    assert np.array_equal(stage.sound[start : start + len(speech)], speech)
    assert {order.block_latents for order in stage.orders} >= {1, 4}


def test_pictures_belong_to_their_sound_whatever_happens() -> None:
    rng = np.random.default_rng(0)
    stage = Stage(slow_block_latents=4)
    noise = rng.integers(-9000, 9000, 4 * SOUND_RATE_HZ).astype(np.int16)
    for turn in range(20):
        stage.say(noise, str(turn))
        for _ in range(8):
            stage.block_s = float(rng.choice([0.05, 0.1, 0.25, 0.7, 2.0], p=[0.4, 0.3, 0.15, 0.1, 0.05]))
            stage.run(float(rng.uniform(0.1, 0.4)))
        if turn % 3:
            stage.interrupt()
    stage.check_that_pictures_belong_to_their_sound()
    assert sum(order.num_skipped > 0 for order in stage.orders) > 5
    assert sum(order.restarts for order in stage.orders) > 10


def test_after_a_long_standstill_the_stream_begins_again_where_its_pictures_can_be_shown() -> None:
    stage = Stage()
    stage.say(np.random.default_rng(0).integers(-9000, 9000, 9 * SOUND_RATE_HZ).astype(np.int16))
    stage.run(2)
    stage.block_s = 3.0
    stage.run(0.5)
    stage.block_s = 0.03
    stage.run(4)
    assert len(stage.heard) == 2
    assert not stage.moments[-1].is_repeat
    stage.check_that_pictures_belong_to_their_sound()


def test_a_clock_that_stood_still_goes_on_and_does_not_rush() -> None:
    stage = Stage()
    stage.run(2)
    num_before = len(stage.moments)
    stage.now_s += 3600
    stage.run(0.1)
    assert len(stage.moments) - num_before < 10


def test_nobody_watching_stops_the_clock() -> None:
    stage = Stage()
    stage.run(2)
    stage.timeline.stop(stage.now_s)
    num_before, num_orders = len(stage.moments), len(stage.orders)
    stage.run(5)
    assert (len(stage.moments), len(stage.orders)) == (num_before, num_orders)
    stage.timeline.go_on(stage.now_s)
    stage.run(1)
    assert 24 <= len(stage.moments) - num_before <= 27
    assert stage.timeline.num_repeated == 0
