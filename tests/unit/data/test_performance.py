import numpy as np
import pytest

from vivavoz.data.emotions import Expression, Feelings
from vivavoz.data.performance import PerformanceConfig, State, perform, perform_random
from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.errors import DataError
from vivavoz.rig.motion import MOTION

RATE_HZ = 16_000
JAW, PRESS, YAW, PITCH, ROLL = (MOTION.index(name) for name in ("jaw", "press", "yaw", "pitch", "roll"))
BLINK_LEFT, BLINK_RIGHT, GAZE_X = (MOTION.index(name) for name in ("blink_left", "blink_right", "gaze_x"))
LARGEST_STEP = {
    "jaw": 0.55,
    "pucker": 0.5,
    "wide": 0.5,
    "smile": 0.2,
    "gaze_x": 0.55,
    "gaze_y": 0.45,
    "brow": 0.35,
    "yaw": 2.0,
    "pitch": 2.0,
    "roll": 2.0,
    "shift_x": 0.005,
    "shift_y": 0.005,
    "scale": 0.005,
    "breath": 0.004,
    "light": 0.01,
}


def babble(duration_s: float, seed: int = 0) -> tuple[np.ndarray, list[Phoneme]]:
    """Buzzing syllables of `M AA` with pauses after every six, and their phonemes."""
    rng = np.random.default_rng(seed)
    num_samples = int(duration_s * RATE_HZ)
    envelope = np.full(num_samples, 1e-3)
    found: list[Phoneme] = []
    time_s = 0.0
    while time_s < duration_s - 0.3:
        if len(found) % 13 == 12 or not found:
            end_s = time_s + rng.uniform(0.6, 1.0)
            found.append(Phoneme(symbol=SILENCE, start_s=time_s, end_s=min(end_s, duration_s)))
        else:
            end_s = time_s + rng.uniform(0.06, 0.18)
            symbol = "AA" if found[-1].symbol == "M" else "M"
            found.append(Phoneme(symbol=symbol, start_s=time_s, end_s=end_s))
            envelope[int(time_s * RATE_HZ) : int(end_s * RATE_HZ)] = 0.3 if symbol == "AA" else 0.08
        time_s = end_s
    buzz = sum(np.sin(2 * np.pi * 125 * k * np.arange(num_samples) / RATE_HZ) / k for k in range(1, 20))
    return (buzz * envelope).astype(np.float32), found


def test_same_seed_same_motion_and_another_seed_another() -> None:
    samples, phonemes = babble(4.0)
    first, again, other = (perform(samples, seed=seed, phonemes=phonemes) for seed in (3, 3, 4))
    assert np.array_equal(first.motion, again.motion)
    assert not np.array_equal(first.motion[:, YAW], other.motion[:, YAW])
    assert np.array_equal(first.motion[:, JAW], other.motion[:, JAW])


@pytest.mark.parametrize("num_samples", [1, 639, 640, 641, 31_999, 32_001])
def test_one_row_per_picture(num_samples: int) -> None:
    samples = babble(2.2)[0][:num_samples]
    performance = perform(samples, seed=0, phonemes=babble(2.2)[1])
    num_frames = -(-num_samples // 640)
    assert performance.motion.shape == (num_frames, len(MOTION))
    assert performance.motion.dtype == np.float32
    assert performance.states.shape == (num_frames,)
    assert np.isfinite(performance.motion).all()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_teleports_or_leaves_its_range(seed: int) -> None:
    samples, phonemes = babble(12.0, seed)
    motion = perform(samples, seed=seed, phonemes=phonemes).motion
    steps = np.abs(np.diff(motion, axis=0)).max(axis=0)
    for name, largest in LARGEST_STEP.items():
        assert steps[MOTION.index(name)] < largest, name
    assert np.abs(motion[:, YAW]).max() <= 10.0
    assert np.abs(motion[:, PITCH]).max() <= 7.0
    assert np.abs(motion[:, ROLL]).max() <= 7.0
    assert np.abs(motion[:, : MOTION.index("yaw")]).max() <= 1.0


def test_pauses_are_closed_and_syllables_open() -> None:
    samples, phonemes = babble(8.0)
    performance = perform(samples, seed=0, phonemes=phonemes)
    opening = performance.motion[:, JAW] * (1.0 - performance.motion[:, PRESS])
    for phoneme in phonemes:
        middle = int((phoneme.start_s + phoneme.end_s) / 2 * 25)
        if phoneme.symbol == SILENCE and phoneme.end_s < 7.5:
            assert opening[middle] < 0.02
        if phoneme.symbol == "AA" and phoneme.end_s - phoneme.start_s > 0.12:
            assert opening[middle - 1 : middle + 2].max() > 0.35


def test_head_moves_as_a_talking_head_does() -> None:
    samples, phonemes = babble(20.0)
    motions = np.concatenate([perform(samples, seed=seed, phonemes=phonemes).motion for seed in range(6)])
    assert 2.5 < motions[:, YAW].std() < 4.5
    assert 1.2 < motions[:, PITCH].std() < 2.8
    assert 1.2 < motions[:, ROLL].std() < 2.8


def test_blinks_come_every_few_seconds_with_both_eyes_and_open_again() -> None:
    samples, phonemes = babble(30.0)
    counts = []
    for seed in range(6):
        motion = perform(samples, seed=seed, phonemes=phonemes).motion
        assert np.array_equal(motion[:, BLINK_LEFT], motion[:, BLINK_RIGHT])
        shut = motion[:, BLINK_LEFT] > 0.8
        counts.append(int((shut[1:] & ~shut[:-1]).sum()))
        assert 0 < shut.mean() < 0.2
    assert 30 / 6.0 < np.mean(counts) < 30 / 2.0


def test_gaze_is_mostly_at_the_camera() -> None:
    samples, phonemes = babble(30.0)
    gaze = np.concatenate([perform(samples, seed=seed, phonemes=phonemes).motion[:, GAZE_X] for seed in range(6)])
    assert (np.abs(gaze) < 0.3).mean() > 0.75
    assert np.abs(gaze).max() > 0.4


def test_states_follow_the_speech() -> None:
    samples, phonemes = babble(4.0)
    samples = np.concatenate([samples, np.zeros(3 * RATE_HZ, np.float32)])
    phonemes = [*phonemes, Phoneme(symbol=SILENCE, start_s=phonemes[-1].end_s, end_s=7.0)]
    states = perform(
        samples, seed=0, phonemes=phonemes, config=PerformanceConfig(pause_s=1.2, pause_state=State.LISTENING)
    ).states
    assert (states[30:90] == State.SPEAKING).all()
    assert (states[110:] == State.LISTENING).all()


def test_wrong_sound_is_refused() -> None:
    with pytest.raises(DataError, match="mono"):
        perform(np.zeros((2, 100), np.float32), seed=0, phonemes=[])
    with pytest.raises(DataError, match="N > 0"):
        perform(np.zeros(0, np.float32), seed=0, phonemes=[])


def test_random_motion_reaches_the_ends_independently() -> None:
    motion = np.concatenate([perform_random(500, seed=seed) for seed in range(8)])
    assert motion.shape == (4000, len(MOTION))
    assert motion.dtype == np.float32
    for name in ("jaw", "pucker", "press", "lower_in", "upper_raise", "tongue", "blink_left", "blink_right"):
        column = motion[:, MOTION.index(name)]
        assert column.min() == pytest.approx(0.0, abs=0.01), name
        assert column.max() == pytest.approx(1.0, abs=0.01), name
    for name, limit in (("wide", 1.0), ("smile", 1.0), ("gaze_x", 1.0), ("gaze_y", 1.0), ("yaw", 12.0), ("pitch", 9.0)):
        column = motion[:, MOTION.index(name)]
        assert column.min() == pytest.approx(-limit, rel=0.02), name
        assert column.max() == pytest.approx(limit, rel=0.02), name
    both_blinks = {MOTION.index("blink_left"), MOTION.index("blink_right")}
    labelled = MOTION.index("light") + 1
    assert not motion[:, labelled:].any()
    correlation = np.corrcoef(motion[:, :labelled].T)
    for first in range(labelled):
        for second in range(first):
            if {first, second} != both_blinks:
                assert abs(correlation[first, second]) < 0.25, (MOTION[first], MOTION[second])


def test_random_motion_is_smooth_and_repeatable() -> None:
    motion = perform_random(300, seed=1)
    assert np.array_equal(motion, perform_random(300, seed=1))
    assert not np.array_equal(motion, perform_random(300, seed=2))
    spans = motion.max(axis=0) - motion.min(axis=0)
    assert (np.abs(np.diff(motion, axis=0)).max(axis=0) <= 0.55 * spans).all()
    assert perform_random(1, seed=0).shape == (1, len(MOTION))
    with pytest.raises(DataError, match="at least 1"):
        perform_random(0, seed=0)


def test_every_picture_of_a_pause_does_as_told_and_speech_goes_on() -> None:
    samples = np.concatenate([np.full(RATE_HZ * 4, 1e-4, np.float32), babble(3.0)[0]])
    phonemes = [Phoneme(symbol=p.symbol, start_s=p.start_s + 4, end_s=p.end_s + 4) for p in babble(3.0)[1]]
    pause_states = np.repeat(np.array([State.LISTENING, State.IDLE], np.uint8), [75, 100])
    told = perform(samples, seed=1, phonemes=phonemes, pause_states=pause_states)
    assert (told.states[:75] == State.LISTENING).all()
    assert (told.states[75:95] == State.IDLE).all()
    assert (told.states[130:150] == State.SPEAKING).all()
    with pytest.raises(DataError, match="175 each"):
        perform(samples, seed=1, phonemes=phonemes, pause_states=pause_states[:-1])


def test_a_listener_looks_at_the_other_and_an_idler_does_not() -> None:
    silence = np.full(RATE_HZ * 120, 1e-5, np.float32)

    def away(state: State) -> float:
        motion = perform(silence, seed=2, phonemes=[], config=PerformanceConfig(pause_state=state)).motion
        return float((np.abs(motion[:, GAZE_X] + 0.02 * motion[:, YAW]) > 0.15).mean())

    assert away(State.LISTENING) < 0.1 < away(State.IDLE)


def test_a_listener_leans_the_head_and_an_idler_does_not() -> None:
    silence = np.full(RATE_HZ * 8, 1e-5, np.float32)

    def leans_deg(state: State) -> list[float]:
        config = PerformanceConfig(pause_state=state)
        return [float(perform(silence, seed=seed, phonemes=[], config=config).motion[:, ROLL].mean()) for seed in range(40)]

    # By the same chances otherwise, so that the state alone tells the two apart.
    further = np.array(leans_deg(State.LISTENING)) - leans_deg(State.IDLE)
    assert 3.5 < further.mean() < 5.0
    assert (further > 0).mean() > 0.9


def test_turns_are_large_slow_and_rare_and_come_only_when_asked_for() -> None:
    silence = np.full(RATE_HZ * 120, 1e-5, np.float32)
    calm, lively = (perform(silence, seed=2, phonemes=[], config=PerformanceConfig(turn_deg=deg)).motion for deg in (0.0, 13.0))
    turned = np.abs(lively[:, YAW] - calm[:, YAW])
    assert turned.max() > 8
    assert 0.05 < (turned > 1).mean() < 0.7
    assert np.abs(np.diff(lively[:, YAW])).max() < 2.5


@pytest.mark.parametrize("expression", list(Expression)[1:])
def test_an_expression_shows_but_lips_still_meet_where_they_must(expression: Expression) -> None:
    samples, phonemes = babble(4.0)
    plain = perform(samples, seed=0, phonemes=phonemes)
    felt = perform(samples, seed=0, phonemes=phonemes, feelings=Feelings.hold(100, expression, 1.0))
    assert np.abs(felt.motion - plain.motion).max() > 0.4
    assert np.array_equal(felt.motion[:, PRESS], plain.motion[:, PRESS])
    shut = plain.motion[:, PRESS] == 1
    assert np.array_equal(felt.motion[shut, JAW], plain.motion[shut, JAW])
    assert np.abs(felt.motion[:, : MOTION.index("yaw")]).max() <= 1.0
    assert (felt.feelings.expressions() == expression).all()
