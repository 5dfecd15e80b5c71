import itertools

import pytest

from tests.unit.data.video.material import marked_face
from vivavoz.data.video.faces import Face, Sighting
from vivavoz.data.video.limits import Limits
from vivavoz.data.video.survey import Survey, plan


def survey(num_frames, faces, cuts=(), size=(1920, 1080)):
    """`faces` gives those of a frame as (x, y, mouth width)."""
    looks = [
        Sighting(index=i, faces=tuple(Face.of(marked_face(*face, 6.0)) for face in faces(i))) for i in range(0, num_frames, 5)
    ]
    return Survey(num_frames=num_frames, width=size[0], height=size[1], cuts=tuple(cuts), sightings=tuple(looks))


def one(x=900.0, y=500.0, width=60.0):
    return lambda index: [(x, y, width)]


def check_all_is_told(pieces, num_frames):
    assert pieces[0].start == 0
    assert pieces[-1].end == num_frames
    assert all(a.end == b.start for a, b in itertools.pairwise(pieces))


def test_a_long_shot_is_cut_into_even_pieces_of_at_most_ten_seconds():
    pieces = plan(survey(610, one()), Limits())
    check_all_is_told(pieces, 610)
    assert [piece.end - piece.start for piece in pieces] == [203, 203, 204]
    assert not any(piece.reason for piece in pieces)
    assert len({piece.square for piece in pieces}) == 1


def test_pieces_end_at_cuts_and_short_shots_are_told():
    pieces = plan(survey(220, one(), cuts=[100, 110]), Limits())
    assert [(piece.start, piece.end, piece.reason) for piece in pieces] == [
        (0, 100, ""),
        (100, 110, "too short"),
        (110, 220, ""),
    ]


def test_the_time_without_a_face_is_told():
    pieces = plan(survey(300, lambda i: [] if 100 <= i < 180 or i >= 280 else [(900, 500, 60)]), Limits())
    check_all_is_told(pieces, 300)
    assert [(piece.start, piece.end, piece.reason) for piece in pieces] == [
        (0, 100, ""),
        (100, 180, "no face"),
        (180, 280, ""),
        (280, 300, "no face"),
    ]
    (nobody,) = plan(survey(100, lambda i: []), Limits())
    assert nobody.reason == "no face"


def test_the_square_is_the_median_so_that_a_wrong_look_does_not_move_it():
    still = plan(survey(100, one()), Limits())[0].square
    (piece,) = plan(survey(100, lambda i: [(900 + (60 if i == 50 else 0), 500, 60)]), Limits())
    assert piece.square == still


def test_somebody_who_walks_is_cut_into_shorter_pieces():
    pieces = plan(survey(200, lambda i: [(400 + 2 * i, 500, 60)]), Limits())
    check_all_is_told(pieces, 200)
    assert len(pieces) > 1
    lefts = [piece.square[0] for piece in pieces]
    assert lefts == sorted(set(lefts))


@pytest.mark.parametrize(
    ("faces", "reason"),
    [
        (one(width=20.0), "resolution"),
        (lambda i: [(900, 500, 60), (1050, 520, 50)], "several faces"),
        (lambda i: [(900, 500, 60), (1050, 520, 15)], ""),  # far behind
        (lambda i: [(900, 500, 60), (1700, 520, 50)], ""),  # beside the crop
        (lambda i: [(900, 500, 60)] + ([(1050, 520, 50)] if i == 20 else []), ""),  # for a moment
    ],
)
def test_what_speaks_against_a_piece(faces, reason):
    (piece,) = plan(survey(150, faces), Limits())
    assert piece.reason == reason
    assert bool(piece.detail) == bool(reason)


def test_the_square_stays_within_the_picture():
    (piece,) = plan(survey(100, one(), size=(640, 560)), Limits())
    left, top, side = piece.square
    assert left >= 0
    assert top >= 0
    assert left + side <= 640
    assert top + side <= 560
