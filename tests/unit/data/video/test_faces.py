import pytest

from tests.unit.data.video.material import FACE_HEIGHT_PX, MOUTH, marked_face
from tests.unit.rig.test_rig import face_landmarks
from vivavoz.data.video.faces import Face, Sighting, principal_track, runs


def person(x, y, width=40.0):
    return Face.of(marked_face(x, y, width, 5.0))


def sightings(*rows, every=5):
    return [Sighting(index=every * number, faces=tuple(row)) for number, row in enumerate(rows)]


def test_the_box_stays_when_the_mouth_opens():
    shut, wide = (Face.of(marked_face(*MOUTH, 38, height)).box for height in (5, 40))
    assert (wide.centre_x, wide.centre_y, wide.side) == pytest.approx((shut.centre_x, shut.centre_y, shut.side), abs=0.5)
    assert shut.side == pytest.approx(FACE_HEIGHT_PX, rel=0.1)


def test_a_turned_head_keeps_its_size():
    assert Face.of(face_landmarks(yaw=25)).box.side == pytest.approx(Face.of(face_landmarks()).box.side, rel=0.03)


def test_the_larger_of_two_people_is_followed_however_they_are_listed():
    big = [person(200 + 4 * i, 200, 60) for i in range(6)]
    small = [person(500, 180, 30) for _ in range(6)]
    rows = [(b, s) if i % 2 else (s, b) for i, (b, s) in enumerate(zip(big, small, strict=True))]
    track = principal_track(sightings(*rows))
    assert track is not None
    assert track.indices == (0, 5, 10, 15, 20, 25)
    assert [box.centre_x for box in track.boxes] == [face.box.centre_x for face in big]
    assert all(len(others) == 1 and others[0].side < 100 for others in track.others)


def test_people_who_pass_each_other_are_not_mixed_up():
    rows = [(person(100 + 30 * i, 200, 60), person(400 - 30 * i, 330, 60)) for i in range(9)]
    track = principal_track(sightings(*rows))
    assert len({round(box.centre_y) for box in track.boxes}) == 1


def test_who_is_found_again_is_the_same_and_gaps_part_the_runs():
    here, gone = (person(200, 200),), ()
    track = principal_track(sightings(here, gone, here, here, gone, gone, gone, here))
    assert track.indices == (0, 10, 15, 35)
    assert [run.indices for run in runs(track, 7)] == [(0,), (10, 15), (35,)]
    assert [run.indices for run in runs(track, 15)] == [(0, 10, 15), (35,)]
    assert principal_track(sightings(gone, gone)) is None
    assert principal_track([]) is None
