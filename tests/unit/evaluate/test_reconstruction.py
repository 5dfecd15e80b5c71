import numpy as np
import pytest
import torch

from tests.unit.evaluate.material import babble, drawn_portrait, material
from vivavoz.errors import DataError
from vivavoz.evaluate.fidelity import to_video
from vivavoz.evaluate.metrics import psnr
from vivavoz.evaluate.reconstruction import (
    ReconstructionConfig,
    choose_references,
    evaluate_reconstruction,
    render_clip,
)
from vivavoz.rig.labels import LABELS
from vivavoz.train.perceptual import choose_perceptual
from vivavoz.vae.config import tiny_vae_config
from vivavoz.vae.vae import VAE

CONFIG = ReconstructionConfig(num_portraits=1, clips_per_portrait=1, num_frames=5, size=64)


def test_clip_has_frames_references_and_their_mouths():
    rig = drawn_portrait().rig()
    clip = render_clip(rig, babble(), CONFIG, at=0.5)
    assert clip.frames.shape == (5, 64, 64, 3)
    assert clip.references.shape == (3, 64, 64, 3)
    assert np.array_equal(clip.references[0], rig.render(None, 64).image)
    assert np.array_equal(clip.labels, rig.labels(babble().motion)[20:25])
    with pytest.raises(DataError, match="expected 5"):
        render_clip(rig, babble(3), CONFIG, at=0.5)


def test_references_are_the_widest_mouth_and_the_farthest_pose():
    labels = np.zeros((6, len(LABELS)), np.float32)
    labels[3, LABELS.index("opening")] = 2.0
    labels[4, LABELS.index("opening")] = 9.0
    labels[5, LABELS.index("yaw")] = -3.0
    still = np.zeros(len(LABELS), np.float32)
    assert choose_references(labels, [0, 1, 2, 3, 5], still, still) == (3, 5)


@pytest.mark.parametrize("warp", [False, True])
def test_every_kind_of_latents_is_scored_with_every_number_of_references(warp):
    torch.manual_seed(0)
    vae = VAE(tiny_vae_config(warp=warp)).eval()
    found, samples = evaluate_reconstruction(vae, material(), CONFIG, choose_perceptual())
    assert found.num_frames == 5
    kinds = {(row.kind, row.num_references): row.score for row in found.fidelities}
    assert set(kinds) == {("copy", 1), *((kind, count) for kind in ("encoder", "labels") for count in range(4))}
    clip = render_clip(drawn_portrait().rig(), babble(), CONFIG, at=0.5)
    truth, copy = (to_video(images)[0].transpose(0, 1) for images in (clip.frames, clip.references[[0] * 5]))
    assert kinds["copy", 1].psnr_db == pytest.approx(float(psnr(copy, truth).mean()), abs=1e-3)
    # An untrained warp shows the first reference itself, but for a little of the painted layer.
    assert not warp or kinds["encoder", 1].psnr_db == pytest.approx(kinds["copy", 1].psnr_db, abs=3)
    (sample,) = samples
    assert sample.counts == (0, 1, 2, 3)
    assert sample.decoded[3].shape == sample.truth.shape == (64, 64, 3)


def test_clips_that_cannot_be_encoded_are_refused():
    with pytest.raises(DataError, match="16 frames"):
        ReconstructionConfig(num_frames=16)
