from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from vivavoz.media.crop import crop_portrait
from vivavoz.rig import landmarks as lm
from vivavoz.rig.finder import LIPS, cut, find_landmarks, into_frame, mouth_frame, out_of_frame
from vivavoz.rig.head_pose import angles, fit_head


@functools.cache
def astronaut() -> np.ndarray:
    return crop_portrait(skimage.data.astronaut()).image


def height_px(points: np.ndarray) -> float:
    return float(np.linalg.norm(points[lm.FOREHEAD_TOP, :2] - points[lm.CHIN_TIP, :2]))


def found(image: np.ndarray) -> np.ndarray:
    points = find_landmarks(image)
    assert points is not None
    assert points.shape == (478, 3)
    return points


def test_a_photograph_has_eyes_nose_lips_and_chin_where_they_are() -> None:
    points = found(astronaut())
    places = {
        "left eye": points[list(lm.EYE_LEFT), :2].mean(0),
        "right eye": points[list(lm.EYE_RIGHT), :2].mean(0),
        "nose": points[lm.NOSE_TIP, :2],
        "lips": points[list(LIPS), :2].mean(0),
    }
    seen = {"left eye": (205, 199), "right eye": (313, 205), "nose": (256, 262), "lips": (255, 308)}  # read off the picture
    for name, place in seen.items():
        assert np.linalg.norm(places[name] - place) < 7, (name, places[name])
    yaw, pitch, roll = angles(fit_head(points).rotation)
    assert max(abs(yaw), abs(pitch), abs(roll)) < 12


def test_points_go_along_with_the_picture() -> None:
    points, image = found(astronaut()), astronaut()
    mirrored = found(np.ascontiguousarray(image[:, ::-1]))
    assert np.allclose(mirrored[lm.mirrored_order(), 0], 512 - points[:, 0], atol=1e-2)
    turn = np.asarray(cv2.getRotationMatrix2D((256, 256), 8, 0.95), np.float32)
    turned = found(np.asarray(cv2.warpAffine(image, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)))
    expected = points[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.linalg.norm(turned[:, :2] - expected, axis=1).mean() < 0.03 * height_px(points)
    half = found(np.asarray(cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)))
    assert np.linalg.norm(2 * half - points, axis=1).mean() < 0.02 * height_px(points)


@pytest.mark.parametrize("kind", ["noise", "upside down", "coffee"])
def test_what_shows_no_face_has_no_landmarks(kind: str) -> None:
    image = {
        "noise": np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8),
        "upside down": np.ascontiguousarray(astronaut()[::-1]),
        "coffee": np.ascontiguousarray(skimage.data.coffee()[:400, :400]),
    }[kind]
    assert find_landmarks(image) is None


def test_a_mouths_cut_shows_the_mouth_upright() -> None:
    points = torch.from_numpy(found(astronaut()) / 512)[None]
    frame = mouth_frame(points)
    lips = points[:, list(LIPS), :2]
    inside = into_frame(lips, frame)
    assert inside.abs().max() < 0.9
    assert torch.allclose(out_of_frame(inside, frame), lips, atol=1e-5)
    picture = torch.zeros(1, 3, 512, 512)
    x, y = (int(value * 512) for value in lips[0, 0])
    picture[:, :, y - 1 : y + 2, x - 1 : x + 2] = 1
    shown = cut(picture, frame, (96, 128))[0, 0]
    row, column = divmod(int(shown.argmax()), 128)
    place = torch.tensor([(2 * column + 1) / 128 - 1, (2 * row + 1) / 96 - 1])
    assert (place - inside[0, 0]).abs().max() < 0.05
