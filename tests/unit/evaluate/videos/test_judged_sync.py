"""`vivavoz sync` and CAPP: windows, scores of clips whose answer is known, their training on a toy, their files."""

import numpy as np
import pytest
import torch

from tests.unit.evaluate.videos.material import talking_clip
from vivavoz.data.shards.clip import ClipInfo
from vivavoz.data.video.measure import measure_heads
from vivavoz.errors import ConfigError, DataError, WeightsError
from vivavoz.evaluate.videos import capp, sync
from vivavoz.evaluate.videos.contrast import (
    ContrastConfig,
    Material,
    contrastive_loss,
    split_material,
    train_capp,
    train_sync,
)
from vivavoz.evaluate.videos.judge_trial import describe, try_capp, try_sync


def toy(num_clips, num_frames, people=None, seed=0, swell_frames=2):
    """Clips whose mouth is as bright, in a band, and whose head is as near, as the sound is loud, which swells and falls."""
    rng = np.random.default_rng(seed)
    material = []
    for i in range(num_clips):
        noise = np.convolve(rng.standard_normal(num_frames + swell_frames), np.ones(swell_frames), "valid")[:num_frames]
        loud = torch.from_numpy(noise / (2 * swell_frames) ** 0.5).float()
        mouths = torch.full((num_frames, 48, 48), 100.0) + torch.linspace(-20, 20, 48)[:, None]
        mouths[:, 16:32] += (60 * loud).clamp(-90, 90)[:, None, None]
        poses = torch.zeros(num_frames, 6)
        poses[:, 5] = loud
        mel = loud[(torch.arange(num_frames * 16 // 5) * 5 // 16)][:, None].expand(-1, 80).clamp(-3, 3).contiguous()
        info = ClipInfo(
            key=f"c{i}", identity=f"p{i % (people or num_clips)}", source="s", licence="CC0", split="train", num_frames=num_frames
        )
        material.append(Material(info=info, mouths=mouths.clamp(0, 255).to(torch.uint8), poses=poses, mel=mel))
    return material


def test_windows_of_sound_and_mouth_are_the_same_moments():
    mel = torch.arange(80 * 3)[:, None].expand(-1, 80).float()
    windows = sync.mel_windows(mel, torch.tensor([0, 5, 25]))
    assert windows.shape == (3, 16, 80)
    assert windows[:, 0, 0].tolist() == [0, 16, 80]  # 80 mel frames to 25 pictures
    assert capp.mel_windows(mel, torch.tensor([0]))[0, -1, 0] == 239
    mouths = torch.arange(30)[:, None, None].expand(-1, 48, 48)
    assert sync.mouth_windows(mouths, torch.tensor([3]))[0, :, 0, 0].tolist() == [3, 4, 5, 6, 7]


def test_mouths_follow_the_lips():
    clip = talking_clip(8)
    moved = clip.frames.copy()
    points = clip.points().copy()
    moved[4:] = np.roll(moved[4:], 15, axis=2)
    points[4:, :, 0] += 15
    crops = sync.mouth_crops(type(clip)(name="moved", frames=moved, samples=clip.samples, landmarks=points))
    assert crops.shape == (8, 48, 48)
    assert np.abs(crops[0].astype(int) - crops[-1]).mean() < 6
    still = sync.mouth_crops(clip)
    assert np.ptp(still.astype(int), axis=0).max() == 0


def test_poses_are_angles_places_and_size():
    from tests.unit.rig.test_rig import face_landmarks

    points = np.stack([face_landmarks(), face_landmarks(yaw=10), face_landmarks(pitch=-5, roll=4)])
    track = capp.pose_figures(measure_heads(points))
    np.testing.assert_allclose(np.degrees(track[:, :3] * [0.05, 0.03, 0.03]), [[0, 0, 0], [10, 0, 0], [0, -5, 4]], atol=0.3)
    np.testing.assert_allclose(track[:, 5], 0, atol=0.25)


def test_a_scorer_learns_what_belongs_together():
    config = ContrastConfig(minutes=1000, max_steps=60, clips_per_batch=8, windows_per_clip=4, learning_rate=2e-3)
    scorer = train_sync(toy(24, 60), config)
    trial = try_sync(scorer, toy(8, 60, seed=9))
    assert trial.right_offset == 1
    assert trial.offset_error_frames < 1
    assert trial.confidence > 2 * trial.confidence_elsewhere
    assert "100% found in step" in describe(trial)


def test_capp_learns_what_belongs_together():
    config = ContrastConfig(minutes=1000, max_steps=60, clips_per_batch=16, windows_per_clip=2)
    encoders = train_capp(toy(40, 100, swell_frames=10), config)
    trial = try_capp(encoders, toy(10, 150, seed=9, swell_frames=10))
    assert trial.told_apart > 0.85
    assert trial.told_apart_in_time > 0.8
    assert trial.confidence > trial.confidence_elsewhere + 0.2
    assert "same voice at another time" in describe(trial)


def test_the_loss_is_least_for_pairs():
    features = torch.nn.functional.normalize(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    scale = torch.tensor(3.0)
    assert contrastive_loss(features, features, scale) < contrastive_loss(features, features.roll(1, 0), scale)
    equal = torch.ones(16, 8) / 8**0.5
    assert contrastive_loss(equal, equal, scale).item() == pytest.approx(np.log(16), rel=1e-5)


def test_people_are_held_back_whole_and_a_lone_speaker_by_clip():
    config = ContrastConfig(held_share=0.2)
    train, held = split_material(toy(40, 12, people=10), config)
    assert len(held) == 8
    assert not {one.info.identity for one in train} & {one.info.identity for one in held}
    train, held = split_material(toy(40, 12, people=1), config)
    assert (len(train), len(held)) == (32, 8)


def test_files_keep_what_they_hold(tmp_path):
    torch.manual_seed(0)
    scorer, encoders = sync.SyncScorer().eval(), capp.Capp().eval()
    scorer.save(tmp_path / "sync.safetensors")
    encoders.save(tmp_path / "capp.safetensors")
    mel = torch.randn(3, 16, 80)
    torch.testing.assert_close(sync.load_sync(tmp_path / "sync.safetensors").hear(mel), scorer.hear(mel), atol=5e-3, rtol=0)
    assert (tmp_path / "sync.safetensors").stat().st_size < 2_000_000
    with pytest.raises(WeightsError, match="expected vivavoz CAPP"):
        capp.load_capp(tmp_path / "sync.safetensors")
    with pytest.raises(WeightsError, match="cannot be used"):
        capp.load_capp(tmp_path / "none.safetensors")


def test_clips_are_scored(tmp_path):
    torch.manual_seed(0)
    found = sync.SyncScorer().eval().score(talking_clip(40))
    assert found.confidence >= 0
    assert 0 <= found.distance <= 2
    assert -1 <= capp.Capp().eval().score(talking_clip(101)) <= 1
    with pytest.raises(DataError, match="5 pictures with sound"):
        sync.SyncScorer().score(talking_clip(5))
    with pytest.raises(DataError, match="CAPP needs 75"):
        capp.Capp().score(talking_clip(74))


def test_bad_options_and_small_corpora_are_refused():
    with pytest.raises(ConfigError, match="expected > 0"):
        ContrastConfig(minutes=0)
    with pytest.raises(DataError, match="got 3 clips"):
        train_sync(toy(3, 60), ContrastConfig(clips_per_batch=8))
    with pytest.raises(DataError, match="held back, expected 2"):
        try_capp(capp.Capp(), toy(1, 75))
