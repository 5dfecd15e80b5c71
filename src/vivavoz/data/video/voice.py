"""Where somebody speaks: Silero's voice activity model, whose weights come with its package.

Legend: N samples at 16 kHz, F pictures at 25 a second.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoz.audio.silero import load_voice_detector
from vivavoz.errors import DataError
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

_WINDOW_SAMPLES: Final = 512


def voice_activity(samples: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """How likely somebody speaks during each picture, (F,) in [0, 1], from samples (N,).

    Speech of any language, singing too; it does not tell whose voice it is.

    Raises:
        DataError: silero-vad is not installed.
    """
    model = _model()
    if len(samples) == 0 or num_frames == 0:
        return np.zeros(num_frames, np.float32)
    with torch.inference_mode():
        likely = model.audio_forward(torch.from_numpy(np.array(samples, np.float32))[None], SAMPLE_RATE_HZ)[0].numpy()
    middles_s = (np.arange(len(likely)) + 0.5) * _WINDOW_SAMPLES / SAMPLE_RATE_HZ
    return np.interp((np.arange(num_frames) + 0.5) / FRAME_RATE, middles_s, likely).astype(np.float32)


def _model() -> Any:
    try:
        return load_voice_detector()
    except ImportError as error:
        raise DataError("no silero-vad to hear voices with; expected it: pip install 'vivavoz[data]'") from error
