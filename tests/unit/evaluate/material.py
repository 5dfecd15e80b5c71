"""A drawn person and a made-up recording: no face finder, no corpus."""

from functools import cache

import numpy as np

from tests.models import lively_model, speech, tiniest
from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.data.phonemes import Phoneme
from vivavoz.engine.model import Model
from vivavoz.evaluate.material import HeldPortrait, HeldSpeech, Material
from vivavoz.rig.motion import Motion

NUM_FRAMES = 45


@cache
def drawn_portrait() -> HeldPortrait:
    points = face_landmarks()
    return HeldPortrait(name="drawn", image=face_image(points), landmarks=points)


@cache
def babble(num_frames: int = NUM_FRAMES) -> HeldSpeech:
    """Jaws that swing, with lips shut for a `p` from frame 20 to 24."""
    jaw = 0.3 + 0.3 * np.sin(np.arange(num_frames) * 0.9)
    jaw[20:24] = 0.0
    yaw = np.linspace(-4, 4, num_frames)
    return HeldSpeech(
        name="babble",
        samples=speech(640 * num_frames),
        phonemes=(
            Phoneme(symbol="AA", start_s=0.2, end_s=0.8),
            Phoneme(symbol="P", start_s=0.8, end_s=0.96),
            Phoneme(symbol="SIL", start_s=0.96, end_s=num_frames / 25),
        ),
        motion=Motion.from_columns(num_frames, {"jaw": jaw, "yaw": yaw}).values,
    )


def material() -> Material:
    return Material(portraits=(drawn_portrait(),), speeches=(babble(),))


@cache
def tiniest_model() -> Model:
    """A model for long streams, shared by tests that do not change it."""
    return lively_model(tiniest())
