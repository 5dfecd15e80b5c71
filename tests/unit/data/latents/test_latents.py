import dataclasses
import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.models import tiniest
from tests.unit.data.shards.material import make_clip
from tests.unit.data.shards.test_reading import equal
from tests.unit.train.paper_material import NUM_FRAMES, write_corpus, write_weights
from vivavoz.data.latents.controls import control_rows, to_controls
from vivavoz.data.latents.encoding import encode_corpus, fetch_weights
from vivavoz.data.latents.reading import LatentWindowConfig, LatentWindows
from vivavoz.data.latents.store import LatentsInfo, StoredLatents, reference_frames
from vivavoz.data.shards.clip import ClipInfo
from vivavoz.data.shards.codec import decode_frames, decode_sound
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.reading import window_loader
from vivavoz.data.shards.storage import read_bytes
from vivavoz.engine.weights import load
from vivavoz.errors import ConfigError, DataError

CONFIG = LatentWindowConfig(batch_size=3, num_latents=4, start_odds=0.5, seed=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Shards, weights and latents."""
    folder = tmp_path_factory.mktemp("latents")
    shards, weights, latents = write_corpus(folder / "shards"), write_weights(folder / "weights"), str(folder / "latents")
    told = []
    encode_corpus(shards, weights, latents, device="cpu", report=told.append)
    assert [(news.name, news.num_done, news.num_files) for news in told] == [("one", 1, 2), ("two", 2, 2)]
    return shards, weights, latents


@pytest.fixture(scope="module")
def latents(folders):
    return folders[2]


def stored(latents):
    """Every clip, by key."""
    info = LatentsInfo.load(latents)
    return {
        clip.info.key: StoredLatents(clip=clip, url=f"{latents}/{shard.name}", layout=info)
        for shard in Manifest.load(latents).shards
        for clip in shard.clips
    }


def clip_of(shards, key):
    """Pictures (T, 3, 64, 64) and samples of a clip."""
    for shard in Manifest.load(shards).shards:
        for clip in shard.clips:
            if clip.info.key == key:
                picked = {name: read_bytes(f"{shards}/{shard.name}", at, at + n) for name, (at, n) in clip.members.items()}
                frames = torch.from_numpy(decode_frames(picked["256.mp4"], range(NUM_FRAMES), key)).permute(0, 3, 1, 2)
                small = torch.nn.functional.avg_pool2d(frames.float() / 127.5 - 1, 4)
                return small, torch.from_numpy(decode_sound(picked["flac"], key))
    raise KeyError(key)


@torch.inference_mode()
def test_what_is_stored_is_what_the_model_gives(folders):
    shards, weights, latents = folders
    model = load(weights, device="cpu")
    pictures, samples = clip_of(shards, "bo-1")
    clip = stored(latents)["bo-1"]
    assert clip.num_latents == 10  # of 39 frames, 37
    mean = model.vae.encode(pictures[:37].transpose(0, 1)[None]).mean[0]
    torch.testing.assert_close(clip.latents(range(10)), mean, rtol=0.01, atol=1e-4)  # bfloat16
    torch.testing.assert_close(clip.latents(range(3, 5)), mean[:, 3:5], rtol=0.01, atol=1e-4)
    assert reference_frames(37) == [0, 12, 25]
    alone = model.vae.encode_references(pictures[[0, 12, 25]][None]).latents[0]
    assert clip.num_references == 3
    for index in range(3):
        torch.testing.assert_close(clip.reference(index), alone[index], rtol=0.01, atol=1e-4)
    windows = model.audio.windows(samples[None])[0]
    torch.testing.assert_close(clip.mel_windows(range(10)), windows[:37], rtol=1e-3, atol=1e-3)  # float16
    torch.testing.assert_close(clip.mel_windows(range(2, 5)), windows[5:17], rtol=1e-3, atol=1e-3)


def test_controls_are_the_labels_of_the_pictures(folders):
    clip = stored(folders[2])["bo-1"]
    labels = make_clip(num_frames=NUM_FRAMES).labels
    controls = to_controls([clip.controls(range(10))])
    for latent in range(10):
        frames = slice(0, 1) if latent == 0 else slice(4 * latent - 3, 4 * latent + 1)
        assert controls.state[0, latent] == labels["state"][frames][-1]
        assert controls.expression[0, latent] == labels["expression"][frames][-1]
        for name in ("expression_intensity", "gaze", "head_pose"):
            expected = torch.tensor(labels[name][frames].mean(axis=0))
            torch.testing.assert_close(getattr(controls, name)[0, latent], expected, rtol=1e-5, atol=1e-6)
    assert controls.present.all()
    assert torch.equal(clip.controls(range(3, 6)), clip.controls(range(10))[3:6])


def test_what_nobody_knows_of_a_clip_is_no_wish():
    rows = control_rows(make_clip(num_frames=9, without=("gaze", "expression_intensity")).labels, 3)
    controls = to_controls([rows])
    assert controls.present[0].tolist() == [[True, True, False, True]] * 3
    assert controls.expression_intensity.tolist() == [[1.0] * 3]


def test_a_batch_is_a_window_of_a_clip_with_references_of_the_same_person(latents):
    clips = stored(latents)
    seen_starts = set()
    for batch in islice(window_loader(LatentWindows(latents, CONFIG)), 12):
        seen_starts.add(batch.starts_video)
        assert batch.latents.shape == (3, 8, 4, 1, 1)
        assert batch.mel_windows.shape == (3, 13 if batch.starts_video else 16, 16, 80)
        assert sorted(batch.keys) == ["anna-1", "anna-2", "bo-1"]
        for row, (key, first) in enumerate(zip(batch.keys, batch.first_latents, strict=True)):
            assert (first == 0) == batch.starts_video
            assert torch.equal(batch.latents[row], clips[key].latents(range(first, first + 4)))
            known = to_controls([clips[key].controls(range(first, first + 4))])
            assert torch.equal(batch.controls.head_pose[row], known.head_pose[0])
            assert torch.equal(batch.mel_windows[row], clips[key].mel_windows(range(first, first + 4)))
            theirs = [clip.reference(i) for other, clip in clips.items() if other[:2] == key[:2] for i in range(3)]
            for reference in batch.references[row].unbind(1):
                assert any(torch.equal(reference, one) for one in theirs)
    assert seen_starts == {True, False}


def test_workers_restarts_and_machines_change_nothing(latents):
    windows = LatentWindows(latents, CONFIG)
    batches = [windows[index] for index in range(6)]
    assert all(equal(one, two) for one, two in zip(islice(window_loader(windows, num_workers=1), 2), batches, strict=False))
    assert all(equal(one, two) for one, two in zip(islice(window_loader(windows, start=4), 2), batches[4:], strict=True))
    assert equal(next(iter(window_loader(windows, start=1, rank=1, world_size=2))), batches[3])
    assert not equal(LatentWindows(latents, dataclasses.replace(CONFIG, seed=4))[0], batches[0])


def test_encoding_goes_on_where_it_was_and_ends_with_the_same_bytes(folders, tmp_path):
    shards, weights, latents = folders
    again = tmp_path / "again"
    encode_corpus(shards, weights, str(again), device="cpu")
    (again / "two.safetensors").unlink()
    (again / "manifest.jsonl").unlink()
    told = []
    encode_corpus(shards, weights, str(again), device="cpu", report=told.append)
    assert [news.name for news in told] == ["two"]
    for name in ("one.safetensors", "two.safetensors", "manifest.jsonl", "latents.json", "weights/vae.safetensors"):
        assert (again / name).read_bytes() == Path(latents, name).read_bytes()


def test_latents_can_lie_elsewhere(folders, tmp_path):
    shards, weights, latents = folders
    encode_corpus(shards, weights, "memory://latents", device="cpu")
    assert equal(LatentWindows("memory://latents", CONFIG)[0], LatentWindows(latents, CONFIG)[0])
    assert fetch_weights(latents, tmp_path / "unused").parent.as_posix() == latents
    assert load(fetch_weights("memory://latents", tmp_path / "here"), device="cpu").preset == tiniest()


def test_what_does_not_belong_together_is_refused(folders, tmp_path):
    shards, weights, latents = folders
    with pytest.raises(DataError, match="another VAE"):
        encode_corpus(shards, write_weights(tmp_path / "other", seed=1), latents, device="cpu")
    with pytest.raises(DataError, match=r"cannot read .*manifest"):
        encode_corpus(str(tmp_path / "nothing"), weights, str(tmp_path / "out"), device="cpu")
    with pytest.raises(ConfigError, match="cannot compute on 'nowhere'"):
        encode_corpus(shards, weights, str(tmp_path / "out"), device="nowhere")
    with pytest.raises(DataError, match="holds no pictures"):
        encode_corpus(latents, weights, str(tmp_path / "twice"), device="cpu")
    with pytest.raises(DataError, match="vivavoz encode"):
        LatentWindows(shards, CONFIG)
    with pytest.raises(DataError, match=r"3 train clips, none longer than 10 latents; give clips of 1\.6 s or more"):
        LatentWindows(latents, dataclasses.replace(CONFIG, num_latents=10))


@pytest.mark.parametrize(
    ("text", "expected"), [("{}", "version None"), ('{"version": 9}', "version 9"), ("[", "damaged"), ('{"version": 2}', "lacks")]
)
def test_a_damaged_description_is_told(tmp_path, text, expected):
    (tmp_path / "latents.json").write_text(text)
    with pytest.raises(DataError, match=expected):
        LatentsInfo.load(str(tmp_path))


def test_the_file_is_safetensors_that_anyone_can_open(latents):
    from safetensors import safe_open

    with safe_open(f"{latents}/two.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["bo-1.controls", "bo-1.latents", "bo-1.mel", "bo-1.references"]
        assert torch.equal(file.get_tensor("bo-1.latents").float().transpose(0, 1), stored(latents)["bo-1"].latents(range(10)))
    assert json.loads(Path(latents, "latents.json").read_text())["size_px"] == 64
    assert all(isinstance(clip.clip.info, ClipInfo) for clip in stored(latents).values())
