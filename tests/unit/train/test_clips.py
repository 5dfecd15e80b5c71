import itertools

import numpy as np
import pytest
import torch

from tests.unit.train.material import clip_config, portraits
from vivavoz.rig.labels import LABELS
from vivavoz.rig.motion import COLUMN, MOTION, Motion
from vivavoz.rig.rig import Rig
from vivavoz.train.clips import EYES, IRISES, MIRROR_SIGN, MIRRORED, MOUTH, AnimatedClips, animate, pictures
from vivavoz.train.rig_deck import DeckConfig


def batches(count, **changes):
    people = portraits()
    data = AnimatedClips(people, clip_config(**changes))
    return [data[index] for index in range(count)]


def rig():
    return Rig.from_image(portraits().images[0], portraits().landmarks[0])


def animated(seed, **changes):
    names = ("frames", "references", "labels", "reference_labels", "flow", "mask", "region")
    config = clip_config(size=128, clips_per_person=3, **changes)
    return dict(zip(names, animate(rig(), config, 2, np.random.default_rng(seed)), strict=True))


def is_mirrored(seed):
    return np.abs(animated(seed)["flow"] - animated(seed, mirror=False)["flow"]).max() > 1e-6


def test_shapes_and_ranges():
    (clips,) = batches(1, num_people=2, num_frames=5, reference_odds=(0.0, 0.0, 1.0))
    assert clips.frames.shape == (4, 5, 64, 64, 3)
    assert clips.references.shape == (2, 2, 64, 64, 3)
    assert clips.labels.shape == (4, 5, len(LABELS))
    assert clips.reference_labels.shape == (2, 2, len(LABELS))
    assert clips.flow.shape == (4, 2, 2, 5, 32, 32)
    assert clips.mask.shape == clips.region.shape == (4, 1, 5, 32, 32)
    assert set(clips.region.unique().tolist()) == {0.0, EYES, MOUTH, IRISES}
    assert 0 <= clips.mask.min() <= clips.mask.max() <= 1
    moving = (clips.frames[:, 0] != clips.frames[:, 4]).any()
    assert moving
    video = pictures(clips.frames)
    assert video.shape == (4, 5, 3, 64, 64)
    assert -1 <= video.min() < video.max() <= 1


def test_no_references():
    (clips,) = batches(1, reference_odds=(1.0,))
    assert clips.references.shape == (1, 0, 64, 64, 3)
    assert clips.reference_labels.shape == (1, 0, len(LABELS))


def test_the_seed_decides():
    first, again, other = (batches(2, deck=DeckConfig(seed=seed)) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__)
    assert not torch.equal(first[0].frames, other[0].frames)
    assert not torch.equal(first[0].frames, first[1].frames)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_that_goes_on_sees_the_batches_it_would_have_seen(num_workers):
    people = portraits()
    data = AnimatedClips(people, clip_config(deck=DeckConfig(num_rigs=1, batches_per_deal=2)))
    late = list(itertools.islice(data.batches(num_workers=num_workers)(3), 3))
    for index, clips in enumerate(late, 3):
        again = AnimatedClips(people, data.config)[index]
        assert all(torch.equal(getattr(clips, name), getattr(again, name)) for name in clips.__dataclass_fields__)


def test_processes_share_the_batches():
    people = portraits()
    data = AnimatedClips(people, clip_config())
    (third,) = itertools.islice(data.batches(rank=1, world_size=2)(1), 1)
    assert torch.equal(third.frames, data[3].frames)


def test_every_portrait_has_its_turn():
    # Of two portraits, each rigged twice and used once, four clips see each of them twice.
    deck = DeckConfig(num_rigs=1, batches_per_deal=1, max_zoom=1.0, reshape=0.0)
    seen = batches(4, clips_per_person=1, mirror=False, deck=deck)
    openings = sorted(float(clips.reference_labels[0, 0, LABELS.index("opening")]) for clips in seen)
    assert openings[0] == pytest.approx(openings[1])
    assert openings[2] == pytest.approx(openings[3])
    assert openings[1] < openings[2] - 0.1


def test_people_perform_where_there_are_performances():
    still = np.zeros((40, len(MOTION)), np.float32)
    still[:, COLUMN["jaw"]] = 0.7
    people = portraits()

    def openings(odds):
        config = clip_config(spoken_odds=odds, clips_per_person=4, mirror=False)
        clips = AnimatedClips(people, config, [still])[0]
        return clips.labels[..., LABELS.index("opening")].std()

    assert openings(1.0) < 1e-5  # all as in the performance, which does not move
    assert openings(0.0) > 0.1


def test_mirrored_labels_say_what_the_mirrored_picture_shows():
    row = np.zeros(len(LABELS), np.float32)
    row[[LABELS.index(name) for name in ("eye_open_left", "yaw", "pitch", "smile")]] = 1, 2, 3, 4
    mirrored = row[list(MIRRORED)] * MIRROR_SIGN
    expected = {"eye_open_right": 1, "yaw": -2, "pitch": 3, "smile": 4}
    assert {name: value for name, value in zip(LABELS, mirrored, strict=True) if value} == expected
    assert np.array_equal(mirrored[list(MIRRORED)] * MIRROR_SIGN, row)
    for left in ("eye_open_left", "brow_left"):
        assert LABELS[MIRRORED[LABELS.index(left)]] == left.replace("left", "right")


def test_mirrored_labels_are_those_of_a_mirrored_motion():
    """A face that is its own mirror image, moved the other way round, has the mirrored labels."""
    one = Motion.from_columns(1, {"yaw": 6.0, "roll": 3.0, "blink_left": 0.7, "gaze_x": 0.5, "shift_x": 0.02, "jaw": 0.4}).values
    other = Motion.from_columns(
        1, {"yaw": -6.0, "roll": -3.0, "blink_right": 0.7, "gaze_x": -0.5, "shift_x": -0.02, "jaw": 0.4}
    ).values
    labels = rig().labels(np.concatenate([one, other]))
    np.testing.assert_allclose(labels[0][list(MIRRORED)] * MIRROR_SIGN, labels[1], atol=0.05)


def test_mirroring_flips_everything_alike():
    seed = next(seed for seed in range(20) if is_mirrored(seed))
    plain, mirrored = animated(seed, mirror=False), animated(seed)
    assert np.array_equal(mirrored["mask"], plain["mask"][..., ::-1])
    assert np.array_equal(mirrored["region"], plain["region"][..., ::-1])
    only_x = np.array([-1, 1]).reshape(2, 1, 1, 1)
    assert np.array_equal(mirrored["flow"], plain["flow"][..., ::-1] * only_x)
    assert np.array_equal(mirrored["labels"], plain["labels"][..., list(MIRRORED)] * MIRROR_SIGN)
    assert np.array_equal(mirrored["reference_labels"], plain["reference_labels"][..., list(MIRRORED)] * MIRROR_SIGN)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_the_flow_takes_the_frame_from_each_reference_outside_the_mask(mirrored, which):
    seed = next(seed for seed in range(20) if is_mirrored(seed) == mirrored)
    clips = animated(seed)
    frames = torch.from_numpy(clips["frames"][:, 0]).float().permute(0, 3, 1, 2)
    reference = torch.from_numpy(clips["references"][which : which + 1]).float().permute(0, 3, 1, 2).expand(3, -1, -1, -1)
    flow = torch.nn.functional.interpolate(torch.from_numpy(clips["flow"][:, which, :, 0]), size=128, mode="bilinear")
    centres = (torch.arange(128) * 2 + 1) / 128 - 1
    identity = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))
    # What one mouth shows and the other hides no flow can fetch; eyes move on their own.
    covered = torch.nn.functional.interpolate(torch.from_numpy(clips["mask"][:, :, 0]), size=128)[:, 0] > 0.01
    if which:
        covered |= torch.nn.functional.interpolate(torch.from_numpy(clips["region"][:, :, 0]), size=128)[:, 0] > 0

    def error(field):
        warped = torch.nn.functional.grid_sample(
            reference, (identity + field).permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
        )
        # Light changes over time and the labels know by how much, so only the picture's relation to its own light is compared.
        gain = (frames.mean((1, 2, 3)) / warped.mean((1, 2, 3)))[:, None, None, None]
        return (warped * gain - frames).abs().mean(1)[~covered].mean()

    assert error(flow) < 0.35 * error(torch.zeros_like(flow))
    assert error(flow) < 0.5 * error(flow * torch.tensor([-1.0, 1])[:, None, None])
