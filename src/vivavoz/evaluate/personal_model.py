"""A model whose avatars have each been trained on their person: measured like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vivavoz.data.corpus import Detect
from vivavoz.engine.avatar import Avatar, Portrait, photographs, resized
from vivavoz.engine.avatar_file import AVATAR_SUFFIX
from vivavoz.engine.model import Model
from vivavoz.media.crop import CropMode
from vivavoz.rig.landmarks import detect_landmarks
from vivavoz.train.personal import PersonalTraining, personalise


class PersonalModel(Model):
    """Another model's modules, and avatars of single portraits that are personal (`vivavoz.train.personal`)."""

    def __init__(self, model: Model, folder: Path, training: PersonalTraining, *, detect: Detect = detect_landmarks) -> None:
        """`folder` keeps the avatars: each is trained once. `detect`: see `personalise`."""
        super().__init__(model.preset)
        self.vae, self.generator, self.audio = model.vae, model.generator, model.audio
        self.use_runtime(model.runtime.name)
        self.folder, self.personal_training, self._detect = folder, training, detect

    def avatar(
        self,
        images: Portrait | Sequence[Portrait],
        crop: CropMode = "auto",
        size: int | None = None,
        *,
        posed: bool = True,
    ) -> Avatar:
        """See `Model.avatar`."""
        avatar = super().avatar(images, crop, size, posed=posed)
        if len(avatar.crops) != 1:
            return avatar
        usual = avatar if size is None else super().avatar(images, crop, posed=posed)  # what is learnt serves all sizes
        name = hashlib.sha256(usual.crops[0].image.tobytes()).hexdigest()[:16]
        path = self.folder / f"{name}{AVATAR_SUFFIX}"
        if not path.is_file():
            personalise(usual, self.folder / name, self.personal_training, detect=self._detect).save(path)
        learnt = super().avatar(path)
        shown = tuple(resized(image, avatar.size) for image in learnt.shown)
        photos = photographs(shown, self.device)
        return replace(avatar, shown=shown, references=replace(learnt.references, photos=photos, size=avatar.references.size))
