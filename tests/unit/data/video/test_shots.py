import itertools

import cv2
import numpy as np
import skimage.data

from tests.unit.data.video.material import speech, talking
from vivavoz.data.video.shots import change, find_cuts, thumbnail


def cuts(pictures):
    small = [thumbnail(picture) for picture in pictures]
    return find_cuts([change(a, b) for a, b in itertools.pairwise(small)])


def test_a_talking_head_is_one_shot():
    assert cuts(talking(speech(2)[1])) == []
    assert cuts([]) == []
    assert cuts(talking([0])) == []


def test_cuts_are_found_to_the_picture():
    wide = list(talking(speech(1)[1], zoom=0.6))
    near = list(talking(speech(1)[1], zoom=1.4, shift_px=(-150, -60)))
    assert cuts([*wide, *near, *wide]) == [25, 50]


def test_a_cut_to_the_same_person_a_little_nearer_is_found():
    assert cuts([*talking(speech(1)[1]), *talking(speech(1)[1], zoom=1.25, shift_px=(-60, -30))]) == [25]


def test_fast_pans_and_light_that_swells_are_no_cuts():
    photograph = cv2.resize(skimage.data.astronaut(), (900, 900))
    assert cuts([photograph[100:500, 12 * i : 12 * i + 400] for i in range(30)]) == []
    assert cuts([(photograph * (0.4 + 0.02 * i)).astype(np.uint8) for i in range(30)]) == []
