import cv2
import numpy as np

from tests.unit.rig.test_rig import face_landmarks, row
from vivavoz.rig import landmarks as lm
from vivavoz.rig.glasses import MIN_CONTRAST, frame_contrast
from vivavoz.rig.rig import Rig

FRAMES = (lm.BROW_LEFT[4], 6, 168, lm.LOWER_ORBIT_LEFT[3], lm.LOWER_ORBIT_RIGHT[3])
"""Where glasses touch."""


def face(*, glasses):
    """Plain skin with shading, and maybe a dark frame."""
    points = face_landmarks()
    image = np.full((512, 512, 3), 175, np.uint8)
    image[:, :, 0] += np.linspace(0, 40, 512, dtype=np.uint8)[:, None]
    if glasses:
        eyes = [points[list(corners), :2] for corners in (lm.EYE_CORNERS_LEFT, lm.EYE_CORNERS_RIGHT)]
        width = float(np.linalg.norm(eyes[0][1] - eyes[0][0]))
        (x0, y), (x1, _) = (np.round(eye.mean(0)).astype(int).tolist() for eye in eyes)
        for x in (x0, x1):
            axes = (round(0.85 * width), round(0.6 * width))
            cv2.ellipse(image, (x, y + round(0.12 * width)), axes, 0, 0, 360, (30, 25, 25), 4, cv2.LINE_AA)
        cv2.line(image, (x0 + round(0.85 * width), y), (x1 - round(0.85 * width), y), (30, 25, 25), 4, cv2.LINE_AA)
    return image, points


def test_dark_frames_are_seen_and_bare_skin_is_not():
    assert frame_contrast(*face(glasses=True)) > MIN_CONTRAST
    assert frame_contrast(*face(glasses=False)) < MIN_CONTRAST / 3


def test_frames_do_not_bend_with_the_face_and_lids_and_lips_still_move():
    stiff, bare = (Rig.from_image(*face(glasses=glasses)) for glasses in (True, False))
    wild = row(brow=1.0, smile=1.0, sneer=1.0, blink_left=1.0, jaw=0.6)
    worn, free = (rig.landmarks(wild) - rig.landmarks(row()) for rig in (stiff, bare))
    assert np.abs(worn[list(FRAMES)]).max() < 0.5
    assert np.abs(free[list(FRAMES)]).max() > 4
    assert np.allclose(worn[list(lm.UPPER_LID_LEFT)], free[list(lm.UPPER_LID_LEFT)])
    assert np.allclose(worn[list(lm.INNER_LIPS)], free[list(lm.INNER_LIPS)], atol=1e-3)
