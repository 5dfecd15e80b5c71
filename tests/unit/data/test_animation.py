from dataclasses import replace

import numpy as np
import pytest

from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.data.animation import ClipPlan, make_clip, phoneme_track, plan_clips
from vivavoz.data.corpus import Portraits, Reader
from vivavoz.data.emotions import Expression
from vivavoz.data.performance import State
from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.data.shards.clip import LABELS, MAX_FRAMES, PHONEMES
from vivavoz.data.shards.codec import encode_clip
from vivavoz.data.shards.manifest import split_of
from vivavoz.engine.controls import EXPRESSIONS, STATES
from vivavoz.errors import ConfigError

PORTRAITS = tuple(f"p{index}.jpg" for index in range(40))
READINGS = [(f"r{index}.flac", 16_000 * 13) for index in range(40)]
PLAN = ClipPlan(
    key="0-0",
    portrait="anna.png",
    reader="reading.wav",
    seed=5,
    lead_frames=2,
    first_frame=3,
    speech_frames=6,
    tail_frames=2,
    lead_state=State.LISTENING,
    tail_state=State.IDLE,
)


def people() -> Portraits:
    points = face_landmarks(gap=0.01)
    return Portraits(images=face_image(points)[None], landmarks=points[None], names=("anna.png",))


def reading() -> Reader:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    spans = ((SILENCE, 0.0, 0.14), ("M", 0.14, 0.22), ("AA", 0.22, 0.9), (SILENCE, 0.9, 1.0))
    phonemes = tuple(Phoneme(symbol=symbol, start_s=start_s, end_s=end_s) for symbol, start_s, end_s in spans)
    return Reader(name="reading.wav", samples=noise, phonemes=phonemes)


def test_a_plan_is_long_enough_and_the_same_for_the_same_seed() -> None:
    plans = plan_clips(PORTRAITS, READINGS, hours=0.5, seed=1)
    assert sum(plan.num_frames for plan in plans) >= 0.5 * 3600 * 25
    assert sum(plan.num_frames for plan in plans[:-1]) < 0.5 * 3600 * 25
    assert plans == plan_clips(PORTRAITS, READINGS, hours=0.5, seed=1)
    assert plans != plan_clips(PORTRAITS, READINGS, hours=0.5, seed=2)
    assert plans[: len(plans) // 2] == plan_clips(PORTRAITS, READINGS, hours=0.25, seed=1)[: len(plans) // 2]


def test_plans_fit_clips_and_recordings_and_show_every_person_and_state() -> None:
    plans = plan_clips(PORTRAITS, READINGS, hours=0.5, seed=0)
    assert all(0 < plan.num_frames <= MAX_FRAMES for plan in plans)
    assert all((plan.first_frame + plan.speech_frames) * 640 <= 16_000 * 13 for plan in plans)
    assert len({plan.key for plan in plans}) == len(plans)
    assert {plan.portrait for plan in plans[:40]} == set(PORTRAITS)
    assert {plan.lead_state for plan in plans} == {State.LISTENING, State.IDLE}
    assert 0.6 < np.mean([plan.speech_frames > 0 for plan in plans]) < 0.9


def test_a_held_out_voice_never_speaks_for_a_face_that_is_trained_on() -> None:
    plans = plan_clips(PORTRAITS, READINGS, hours=1, seed=0)
    splits = {split_of(reader) for reader, _ in READINGS}
    assert all(split_of(plan.portrait) == split_of(plan.reader) for plan in plans if split_of(plan.portrait) in splits)


def test_recordings_too_short_to_speak_still_give_listeners() -> None:
    assert not any(plan.speech_frames for plan in plan_clips(PORTRAITS, [("short.wav", 16_000)], hours=0.02, seed=0))


def test_classes_are_numbered_as_in_clips() -> None:
    assert tuple(state.name.lower() for state in State) == STATES
    assert tuple(expression.name.lower() for expression in Expression) == EXPRESSIONS


def test_refuses_no_hours() -> None:
    with pytest.raises(ConfigError, match="hours"):
        plan_clips(PORTRAITS, READINGS, hours=0, seed=0)


def test_a_clip_has_every_label_and_its_sound_where_the_plan_says() -> None:
    clip = make_clip(PLAN, people(), reading(), licence="CC0")
    assert set(clip.labels) == set(LABELS)
    assert clip.info.identity == "anna.png"
    assert np.array_equal(clip.samples[2 * 640 : 8 * 640], np.round(reading().samples[3 * 640 : 9 * 640] * 32768) / 32768)
    assert 0 < np.abs(clip.samples[: 2 * 640]).max() < 1e-3
    names = [PHONEMES[index] for index in clip.labels["phoneme"]]
    assert names == [SILENCE] * 2 + ["M"] * 2 + ["AA"] * 4 + [SILENCE] * 2
    assert clip.labels["state"][-1] == State.IDLE
    # Labels tell of the picture: where the lips are and how wide they gape.
    lips = clip.landmarks[:, 14, 1] - clip.landmarks[:, 13, 1]
    assert np.corrcoef(lips, clip.labels["lip_shape"][:, 0])[0, 1] > 0.98
    assert np.array_equal(clip.labels["blink"].shape, (10, 2))


def test_the_same_plan_gives_the_same_bytes() -> None:
    plan = replace(PLAN, lead_frames=0, tail_frames=0, speech_frames=3)
    first, again = (encode_clip(make_clip(plan, people(), reading(), licence="CC0")) for _ in range(2))
    assert first == again


def test_phonemes_are_told_at_the_middle_of_pictures() -> None:
    spans = [Phoneme(symbol="B", start_s=0.03, end_s=0.1), Phoneme(symbol="IY", start_s=0.1, end_s=0.2)]
    assert [PHONEMES[index] for index in phoneme_track(spans, 6)] == [SILENCE, "B", "IY", "IY", "IY", SILENCE]
