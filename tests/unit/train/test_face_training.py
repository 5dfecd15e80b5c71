from dataclasses import replace

import numpy as np
import torch

from tests.unit.train.material import portraits
from vivavoz.rig.landmarks import INNER_LIPS
from vivavoz.train.face_training import AnimatedFaces, FaceMapObjective, FaceTraining, _moved, _places
from vivavoz.train.loop import LoopConfig, train
from vivavoz.train.rig_deck import DeckConfig, RigDeck
from vivavoz.vae.face_map import NUM_PLACES, FaceMap

SETTINGS = FaceTraining(
    loop=LoopConfig(num_steps=30, learning_rate=5e-3, warmup_steps=1, log_every_steps=5),
    batch_size=4,
    size=64,
    deck=DeckConfig(num_rigs=2, hybrid_odds=0.3),
)


def faces(**changes):
    people = portraits()
    return AnimatedFaces(people, replace(SETTINGS, **changes))


def test_batches_are_a_function_of_their_number():
    one, again, other = faces()[3], faces()[3], faces()[4]
    assert one.pictures.shape == (4, 64, 64, 3)
    assert one.pictures.dtype == torch.uint8
    assert one.places.shape == (4, NUM_PLACES, 32, 32)
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.places, again.places)
    assert not torch.equal(one.pictures, other.pictures)


def test_places_stay_on_their_pixels_however_a_picture_is_moved():
    people = portraits()
    last = replace(people, images=people.images[1:], landmarks=people.landmarks[1:], names=people.names[1:])
    rig = RigDeck(last, DeckConfig(num_rigs=1, reshape=0.0, max_zoom=1.0)).rigs(0)[0]
    frame = rig.render(None, 256, uv_size=128)
    truth = _places(frame)
    corner = np.round(frame.landmarks[list(INNER_LIPS)].mean(0)).astype(int) + np.array([13, -6])  # beside the lips' middle
    image = np.zeros((256, 256, 3), np.uint8)
    image[corner[1] : corner[1] + 13, corner[0] : corner[0] + 13] = 255
    place = truth[(corner[1] + 6) // 2, (corner[0] + 6) // 2, :2]
    num_seen = 0
    for seed in range(40):
        mirrored = np.random.default_rng(seed).random() < 0.5
        picture, places = _moved(image.copy(), truth, np.random.default_rng(seed))
        y, x = (int(np.average(axis, weights=picture[..., 0])) // 2 for axis in np.mgrid[:256, :256])
        if places[2, y, x]:
            num_seen += 1
            assert np.abs(places[:2, y, x] - place * np.array([-1 if mirrored else 1, 1])).max() < 0.05, seed
    assert num_seen > 35


def test_it_learns_where_faces_are(tmp_path):
    torch.manual_seed(0)
    lines = []
    objective = FaceMapObjective(FaceMap((8, 8, 16, 16)), SETTINGS)
    train(objective, faces().batches(), SETTINGS.loop, tmp_path, report=lines.append)
    assert lines[-1]["place"] < 0.75 * lines[0]["place"]
    assert lines[-1]["opening"] < lines[0]["opening"]
