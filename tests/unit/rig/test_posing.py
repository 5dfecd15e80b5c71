from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.rig import landmarks as lm
from vivavoz.rig.expression import FULL_OPENING
from vivavoz.rig.labels import in_units
from vivavoz.rig.posing import Posed, mouth_poses, pose_mouth, show_poses
from vivavoz.rig.rig import Rig

JAWS = (0.0, 0.6)


def posed(gap: float, jaws: tuple[float, ...] = JAWS, side: int = 512) -> tuple[np.ndarray, Posed]:
    points = face_landmarks(gap=gap)
    portrait = np.asarray(cv2.resize(face_image(points), (side, side)))
    poses = pose_mouth(portrait, jaws, find=lambda image: points)
    assert poses is not None
    return portrait, poses


def num_teeth(picture: np.ndarray) -> int:
    """Pixels as bright as the drawn mouth's inside, about the mouth."""
    scale = len(picture) / 512
    points = face_landmarks()[list(lm.OUTER_LIPS), :2] * scale
    (left, top), (right, bottom) = points.min(0).astype(int), points.max(0).astype(int)
    return int((picture[top:bottom, left:right].min(axis=2) > 185).sum() / scale**2)


@pytest.mark.parametrize("side", [512, 640])
def test_lips_that_show_teeth_are_shut_and_opened_and_the_rest_stays(side: int) -> None:
    portrait, poses = posed(0.05, side=side)
    shut, wide = poses.pictures
    assert shut.shape == wide.shape == portrait.shape
    assert num_teeth(shut) < 0.1 * num_teeth(portrait)
    for picture in (shut, wide):
        changed = np.abs(picture.astype(int) - portrait).max(axis=2)
        assert np.array_equal(picture[: side // 3], portrait[: side // 3])  # eyes, hair
        assert changed[side // 2 :].max() > 40
    opening = in_units(poses.labels, "opening")
    assert opening == pytest.approx([0, 0.6 * FULL_OPENING], abs=2e-3)


def test_a_pose_that_is_the_portraits_own_is_the_portrait() -> None:
    portrait, poses = posed(0.0)
    assert poses.pictures[0] is portrait
    assert not np.array_equal(poses.pictures[1], portrait)


def test_nothing_is_posed_without_landmarks_or_with_a_face_turned_away() -> None:
    portrait = face_image(face_landmarks())
    assert pose_mouth(portrait, JAWS, find=lambda image: None) is None
    assert pose_mouth(portrait, JAWS, find=lambda image: face_landmarks(yaw=40.0)) is None


def test_labels_are_those_of_the_pictures() -> None:
    points = face_landmarks(gap=0.03)
    rig = Rig.from_image(face_image(points), points)
    poses = mouth_poses(rig, (0.0, 0.03 / FULL_OPENING, 1.0))
    assert np.array_equal(poses[1], rig.rest())
    again = show_poses(rig, rig.image, poses)
    assert np.array_equal(again.labels, rig.labels(poses))
    assert again.pictures[1] is rig.image
