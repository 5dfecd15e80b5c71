from vivavoz.audio import alignment
from vivavoz.audio.alignment import (
    LOOKAHEAD_SAMPLES,
    first_mel_frame,
    frames_computable,
    frames_covered,
    frames_of_samples,
    samples_needed,
)
from vivavoz.audio.mel import MelConfig
from vivavoz.timing import SAMPLES_PER_FRAME


def test_constants_agree_with_the_mel_settings() -> None:
    assert MelConfig().hop_samples == alignment.MEL_HOP_SAMPLES
    assert MelConfig().window_samples == 2 * alignment.MEL_REACH_SAMPLES


def test_windows_are_those_of_wav2lip() -> None:
    # Counting pictures and mel frames in seconds: 80 mel frames and 25 pictures, one picture early.
    for frame in range(1, 1000):
        assert first_mel_frame(frame) == int(80 * (frame - 1) / 25)
    assert first_mel_frame(0) == -4


def test_every_window_contains_its_picture() -> None:
    for frame in range(200):
        start = alignment.MEL_HOP_SAMPLES * first_mel_frame(frame)
        end = start + alignment.MEL_HOP_SAMPLES * alignment.MEL_FRAMES_PER_WINDOW
        assert start <= SAMPLES_PER_FRAME * frame
        assert SAMPLES_PER_FRAME * (frame + 1) <= end


def test_lookahead_is_the_largest_and_never_exceeded() -> None:
    lags = [samples_needed(frame + 1) - SAMPLES_PER_FRAME * frame for frame in range(1000)]
    assert lags[:7] == [2600, 2760, 2720, 2680, 2640, 2600, 2760]
    assert max(lags) == LOOKAHEAD_SAMPLES
    assert samples_needed(0) == 0


def test_frames_covered_inverts_first_mel_frame() -> None:
    for num_mel_frames in range(400):
        slow = sum(first_mel_frame(frame) + 16 <= num_mel_frames for frame in range(200))
        assert frames_covered(num_mel_frames) == slow


def test_frames_computable_inverts_samples_needed() -> None:
    for num_samples in range(0, 20000, 7):
        slow = sum(samples_needed(frame + 1) <= num_samples for frame in range(40))
        assert frames_computable(num_samples) == slow
    for num_frames in range(1, 100):
        assert frames_computable(samples_needed(num_frames)) == num_frames
        assert frames_computable(samples_needed(num_frames) - 1) == num_frames - 1


def test_frames_of_samples_counts_a_part_as_one() -> None:
    assert [frames_of_samples(n) for n in (0, 1, 639, 640, 641, 16000)] == [0, 1, 1, 1, 2, 25]
