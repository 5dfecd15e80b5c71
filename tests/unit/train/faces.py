"""Drawn faces with known landmarks, and everything a small training needs."""

from dataclasses import replace
from functools import cache

import numpy as np

from tests.unit.data.test_rig import face_image, face_landmarks
from vivavoz.data.corpus import Portraits
from vivavoz.presets import tiny
from vivavoz.train.clips import ClipConfig


@cache
def portraits(count=2):
    """Drawn people who differ in light and in their lips."""
    points = [face_landmarks(gap=0.02 * index) for index in range(count)]
    images = [np.clip(face_image(p) * (1 - 0.15 * index), 0, 255).astype(np.uint8) for index, p in enumerate(points)]
    return Portraits(images=np.stack(images), landmarks=np.stack(points), names=tuple(f"{i}.png" for i in range(count)))


def clip_config(**changes):
    """Small clips."""
    small = ClipConfig(num_people=1, clips_per_person=2, num_frames=1, size=64, reference_odds=(0.0, 1.0), num_rigs=2)
    return replace(small, **changes)


def small_preset():
    """The tiny model, as shallow as training allows."""
    preset = tiny(warp=True)
    return replace(preset, vae=replace(preset.vae, outer_temporal_kernel=1, inner_temporal_kernel=1))
