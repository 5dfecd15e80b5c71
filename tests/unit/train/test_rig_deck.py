from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.unit.train.material import portraits
from vivavoz.rig.landmarks import OVAL
from vivavoz.train.rig_deck import DeckConfig, RigDeck, reshaping


def test_reshaping_moves_landmarks_and_picture_together():
    people = portraits()
    config = DeckConfig(reshape=0.2, num_rigs=1)
    plain, bent = (RigDeck(people, c) for c in (replace(config, reshape=0.0), config))
    (rig,), (before,) = bent.rigs(0), plain.rigs(0)
    assert np.abs(rig.landmarks_px - before.landmarks_px).max() > 10
    # A landmark lies on the same colour as before: the drawn lips go where their landmarks go.
    for index in (13, 14, 61, 291, 152):
        (x, y), (old_x, old_y) = (np.floor(r.landmarks_px[index, :2]).astype(int) for r in (rig, before))
        patch, old = rig.image[y - 3 : y + 4, x - 3 : x + 4], before.image[old_y - 3 : old_y + 4, old_x - 3 : old_x + 4]
        assert np.abs(patch.mean((0, 1)) - old.mean((0, 1))).max() < 25


@pytest.mark.parametrize("seed", range(5))
def test_reshaping_keeps_areas(seed):
    assert np.linalg.det(reshaping(0.1, np.random.default_rng(seed))) == pytest.approx(1)
    assert np.array_equal(reshaping(0.0, np.random.default_rng(seed)), np.eye(2))


def test_neighbouring_batches_share_rigs_and_later_ones_do_not():
    people = portraits()
    deck = RigDeck(people, DeckConfig(num_rigs=1, batches_per_deal=2))
    first, second, third = (deck.rigs(batch)[0] for batch in range(3))
    assert first is second
    assert np.abs(first.landmarks_px - third.landmarks_px).max() > 1
    np.testing.assert_array_equal(deck.rigs(0)[0].image, first.image)


def test_hybrids_have_another_face_and_keep_their_landmarks():
    people = portraits(3)
    config = DeckConfig(num_rigs=3, max_zoom=1.0, reshape=0.0)
    plain, mixed = (RigDeck(people, replace(config, hybrid_odds=odds)).rigs(0) for odds in (0.0, 1.0))
    for rig in mixed:
        before = min(plain, key=lambda other: np.abs(other.landmarks_px - rig.landmarks_px).max())
        np.testing.assert_allclose(before.landmarks_px, rig.landmarks_px, atol=1e-3)
        np.testing.assert_array_equal(before.image[:40], rig.image[:40])
    assert any(np.abs(rig.image.astype(int) - before.image).max() > 3 for rig in mixed for before in plain[:1])


def test_the_matte_is_reshaped_with_the_picture():
    people = portraits()
    mattes = np.zeros((2, 512, 512), np.uint8)
    for matte, points in zip(mattes, people.landmarks, strict=True):
        cv2.fillPoly(matte, [np.round(points[list(OVAL), :2]).astype(np.int32)], 255)
    (rig,) = RigDeck(replace(people, mattes=mattes), DeckConfig(reshape=0.2, num_rigs=1)).rigs(0)
    expected = np.zeros((512, 512), np.uint8)
    cv2.fillPoly(expected, [np.round(rig.landmarks_px[list(OVAL), :2]).astype(np.int32)], 255)
    assert rig.layers is not None
    assert np.mean((rig.layers.cover > 128) != (expected > 128)) < 0.01
