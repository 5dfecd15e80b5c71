import math
from functools import cache

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from tests.unit.evaluate.material import babble, drawn_portrait, material, tiniest_model
from tests.unit.evaluate.videos.material import write_face_network
from vivavoz.errors import WeightsError
from vivavoz.evaluate.faces import align_face
from vivavoz.evaluate.likeness import LikenessConfig, Pose, choose_descriptor, evaluate_likeness, judge, performed_wishes
from vivavoz.evaluate.videos.identity import load_recogniser
from vivavoz.rig.labels import in_units
from vivavoz.train.perceptual import choose_perceptual


@cache
def faces():
    """Three things that look unlike one another."""
    drawn = align_face(drawn_portrait().image, drawn_portrait().landmarks)
    photo = np.ascontiguousarray(cv2.resize(astronaut()[30:180, 150:300], (224, 224)))
    return drawn, photo, np.ascontiguousarray(photo[::-1, ::-1])


def pose(owner, generated, performed):
    return Pose(owner=owner, generated=generated, performed=performed, generated_face=generated, performed_face=performed)


def judged(*poses, num_lost=0):
    descriptor = choose_descriptor()
    known = np.stack([descriptor.of(face) for face in faces()])
    return judge(poses, known, descriptor, choose_perceptual(), num_lost)


def test_the_person_itself_is_nearest_and_others_are_far():
    drawn, photo, turned = faces()
    found = judged(pose(0, drawn, drawn), pose(1, photo, photo), pose(2, turned, turned), num_lost=2)
    assert found.same == found.animator == pytest.approx(1)
    assert found.nearest == found.animator_nearest == 1
    assert found.others < 0.2
    assert math.isinf(found.psnr_db)
    assert found.num_lost == 2


def test_another_person_is_found_out():
    drawn, photo, _ = faces()
    found = judged(pose(0, photo, drawn), pose(1, photo, photo))
    assert found.nearest == pytest.approx(0.5)
    assert found.animator_nearest == 1
    assert found.same < 0.6


def test_blur_is_still_the_person_but_less_so():
    _, photo, _ = faces()
    blurred = np.ascontiguousarray(cv2.GaussianBlur(photo, (0, 0), 6))
    found = judged(pose(1, blurred, photo))
    assert 0.2 < found.same < 0.98
    assert found.nearest == 1
    assert found.face_psnr_db == pytest.approx(cv2.PSNR(blurred, photo), abs=1e-2)


def test_model_is_asked_for_the_animators_pose():
    rig, speech = drawn_portrait().rig(), babble()
    wishes = performed_wishes(rig, speech)
    wish = wishes.at(10.5 / 25)
    labels = rig.labels(speech.motion)[10]
    assert wish.head_pose_rad is not None
    assert np.degrees(wish.head_pose_rad) == pytest.approx([float(in_units(labels, n)) for n in ("yaw", "pitch", "roll")])


def test_a_model_is_judged_on_pictures_in_which_faces_are_found():
    config = LikenessConfig(num_portraits=1, num_frames=13, num_shown=4, num_scored=2)
    found = iter([drawn_portrait().landmarks / 8, None])
    score, poses = evaluate_likeness(
        tiniest_model(), material(), config, lambda image: next(found), choose_descriptor(), choose_perceptual()
    )
    assert (score.num_pictures, score.num_lost) == (1, 1)
    assert poses[0].generated.shape == poses[0].performed.shape == (64, 64, 3)


def test_a_face_network_sees_the_same_face_in_both_reports(tmp_path):
    write_face_network(tmp_path / "faces.onnx")
    descriptor, recognise = choose_descriptor(face_model=tmp_path / "faces.onnx"), load_recogniser(tmp_path / "faces.onnx")
    drawn, photo, _ = faces()
    portrait = drawn_portrait()
    known = recognise(portrait.image, portrait.landmarks)
    assert known @ descriptor.of(drawn) > 0.9
    assert known @ descriptor.of(photo) < 0.7


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "faces.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="112 x 112"):
        choose_descriptor(face_model=tmp_path / "faces.onnx")
