"""Which sound belongs to which picture, in integers.

Picture `i` (0-based) lasts from sample `640 * i` to `640 * (i + 1)`. Its features come from 16 mel frames (200 ms), the window
Wav2Lip was trained with: it opens where the picture before it starts, and so reaches about 65 ms back from the picture's start
and up to 172.5 ms ahead.
"""

from vivavoz.timing import SAMPLES_PER_FRAME

MEL_FRAMES_PER_WINDOW = 16
"""Mel frames that one picture's features are computed from."""

MEL_HOP_SAMPLES = 200
"""Samples from one mel frame to the next."""

MEL_REACH_SAMPLES = 400
"""Samples that a mel frame sees to either side of its centre."""

# 5 pictures last as long as 16 mel frames.
_MEL_FRAMES, _PICTURES = 16, 5

LOOKAHEAD_SAMPLES = 2760
"""Sound needed from the start of a picture on, at most: 172.5 ms. By picture: 2600, 2760, 2720, 2680, 2640, 2600 and so on.

A live stream can show a picture no earlier than this after the picture's own sound began.
"""


def first_mel_frame(frame_index: int) -> int:
    """First mel frame of the window of picture `frame_index`. Negative for the first picture: silence before the stream."""
    return _MEL_FRAMES * (frame_index - 1) // _PICTURES


def samples_needed(num_frames: int) -> int:
    """Samples of sound, from the start of the stream, without which the first `num_frames` pictures lack features."""
    if num_frames <= 0:
        return 0
    last_mel_frame = first_mel_frame(num_frames - 1) + MEL_FRAMES_PER_WINDOW - 1
    return MEL_HOP_SAMPLES * last_mel_frame + MEL_REACH_SAMPLES


def frames_covered(num_mel_frames: int) -> int:
    """Pictures whose windows lie within the first `num_mel_frames` mel frames."""
    # The largest i with 16 * (i - 1) // 5 + 16 <= num_mel_frames, plus one.
    return max(0, 1 - _PICTURES * (MEL_FRAMES_PER_WINDOW - 1 - num_mel_frames) // _MEL_FRAMES)


def frames_computable(num_samples: int) -> int:
    """Pictures whose features can be computed from the first `num_samples` samples of a stream."""
    if num_samples < MEL_REACH_SAMPLES:
        return 0
    return frames_covered(1 + (num_samples - MEL_REACH_SAMPLES) // MEL_HOP_SAMPLES)


def frames_of_samples(num_samples: int) -> int:
    """Pictures that a sound of `num_samples` samples lasts; a part of a picture counts as one."""
    return -(-num_samples // SAMPLES_PER_FRAME)
