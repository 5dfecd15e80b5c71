from pathlib import Path

import numpy as np
import torch

from tests.models import lively_model, portrait
from tests.unit.train.material import portraits, small_preset
from vivavoz.engine.trees import tensors_of
from vivavoz.evaluate.personal_model import PersonalModel
from vivavoz.evaluate.speaking import speak
from vivavoz.train.loop import LoopConfig
from vivavoz.train.personal import PersonalTraining
from vivavoz.train.vae_training import VAETraining

TRAINING = PersonalTraining(
    vae=VAETraining(loop=LoopConfig(num_steps=3, learning_rate=0.1)), num_frames=1, num_render_processes=0
)


def test_every_person_is_learnt_once_and_speaks_through_the_other_models_modules(tmp_path: Path) -> None:
    plain = lively_model(small_preset())
    asked: list[int] = []

    def detect(image: np.ndarray) -> np.ndarray:
        asked.append(1)
        return portraits().landmarks[0]

    model = PersonalModel(plain, tmp_path, TRAINING, detect=detect)
    image = portraits().images[0]
    first, again = (model.avatar(image, "none") for _ in range(2))
    fresh = plain.avatar(image, "none")
    assert asked == [1]
    assert all(torch.equal(*pair) for pair in zip(tensors_of(first.references), tensors_of(again.references), strict=True))
    assert not torch.equal(first.references.latents, fresh.references.latents)
    assert torch.equal(first.references.photos, fresh.references.photos)
    small = model.avatar(image, "none", 96)
    assert (small.size, small.references.photos.shape[-1], asked) == (96, 96, [1]), "what is learnt serves all sizes"
    assert torch.equal(small.references.latents, first.references.latents)
    said = speak(model, image, np.zeros(640 * 9, np.float32), seed=0)
    assert len(said.images) == 9
    assert not np.array_equal(said.images, speak(plain, image, np.zeros(640 * 9, np.float32), seed=0).images)
    assert len(model.avatar([portrait(0), portrait(1)], "none").crops) == 2
    assert asked == [1]
