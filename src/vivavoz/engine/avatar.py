"""A person: portraits cropped and encoded once, shared by all streams that show them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vivavoz.engine.avatar_file import AVATAR_SUFFIX, read_pictures, refilled, write_avatar
from vivavoz.engine.controls import Wishes
from vivavoz.engine.model import Model
from vivavoz.engine.overlap import Overlap
from vivavoz.engine.stream import Stream
from vivavoz.errors import ConfigError, ImageError
from vivavoz.media.crop import CropMode, PortraitCrop, crop_portrait
from vivavoz.media.image import Pixels, read_image
from vivavoz.presets import SamplingConfig
from vivavoz.rig.posing import pose_mouth
from vivavoz.timing import SAMPLE_RATE_HZ
from vivavoz.vae.vae import References

MAX_SIZE_PX = 2048
"""Largest side of a video."""

Portrait = str | os.PathLike[str] | Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Avatar:
    """One to three portraits, ready to be animated. Nothing in it changes: share it between streams and threads."""

    model: Model
    references: References
    """What the VAE and the generator keep of the portraits, batch 1."""
    crops: tuple[PortraitCrop, ...]
    """The portraits as they were cut, at the video's size."""
    shown: tuple[Pixels, ...]
    """The pictures behind the references, of the same size: the portraits, or a single one with its mouth posed."""
    size: int
    """Side of the video in pixels."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the avatar to a `.safetensors` file, which `Model.avatar` takes like a portrait. Raises `OutputError`."""
        write_avatar(self, path)

    def stream(
        self,
        *,
        seed: int = 0,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        num_channels: int = 1,
        num_steps: int | None = None,
        guidance_audio: float | None = None,
        guidance_reference: float | None = None,
        block_latents: int | None = None,
        controls: Wishes | None = None,
        overlap: bool = False,
    ) -> Stream:
        """Open a live conversation.

        Args:
            seed: of the noise: the same seed, sound and portraits give the same video.
            sample_rate_hz: of the sound that will be pushed, 1000 to 384000.
            num_channels: of the sound that will be pushed.
            num_steps: Euler steps per block. This and what follows: None takes the preset's.
            guidance_audio: `la` of equation (I); 1 switches it off.
            guidance_reference: `lr` of equation (I); 1 switches it off.
            block_latents: latent frames made together, 1, 2 or 4: fewer react sooner, more cost less.
            controls: what the face shall do beside speaking, for presets with controls.
            overlap: while the decoder draws a block, make the next one beside it, where its sound was pushed already: the same
                pictures. Faster where the machine has room for both at once, for sound that is pushed many blocks at a time.

        Raises:
            ConfigError, AudioError: a value out of range.
        """
        usual = self.model.preset.sampling
        sampling = SamplingConfig(
            num_steps=usual.num_steps if num_steps is None else num_steps,
            timestep_shift=usual.timestep_shift,
            guidance_audio=usual.guidance_audio if guidance_audio is None else guidance_audio,
            guidance_reference=usual.guidance_reference if guidance_reference is None else guidance_reference,
            block_latents=usual.block_latents if block_latents is None else block_latents,
        )
        stream = Stream(
            self.model,
            self.references,
            sampling=sampling,
            seed=seed,
            sample_rate_hz=sample_rate_hz,
            num_channels=num_channels,
            controls=controls,
        )
        if overlap:
            stream.overlap = Overlap(self.model.device)
        return stream


def make_avatar(
    model: Model, images: Portrait | Sequence[Portrait], crop: CropMode, size: int | None, *, posed: bool = True
) -> Avatar:
    """See `Model.avatar`."""
    portraits = [images] if isinstance(images, str | os.PathLike | np.ndarray) else list(images)
    stored = [one for one in portraits if not isinstance(one, np.ndarray) and Path(one).suffix == AVATAR_SUFFIX]
    if stored:
        if len(portraits) > 1:
            raise ImageError(f"got {Path(stored[0])} and other portraits, expected it alone: it is an avatar already")
        return _stored(model, Path(stored[0]), size)
    most = model.preset.generator.max_references
    if not 1 <= len(portraits) <= most:
        raise ImageError(f"got {len(portraits)} portraits, expected 1 to {most}: leave some out or add one")
    working_size, output_size = _sizes(model, size)
    crops = tuple(_crop(portrait, crop, output_size) for portrait in portraits)
    shown = tuple(cut.image for cut in crops)
    moved, cover = None, 0.0
    if posed and model.preset.posed_jaws and len(shown) == 1:
        poses = pose_mouth(shown[0], model.preset.posed_jaws)
        if poses is not None:
            shown = poses.pictures
            moved = torch.from_numpy(poses.labels - poses.labels[0])[None].to(model.device)
            cover = model.preset.posed_cover
    pictures = [resized(image, working_size) for image in shown]
    with torch.inference_mode():
        references = model.vae.encode_references(
            photographs(pictures, model.device).to(model.dtype),
            # The warp copies these pixels to the screen: they keep their precision.
            photos=photographs(shown, model.device),
            at_rest=True,
            moved=moved,
            cover=cover,
        )
    return Avatar(model=model, references=references, crops=crops, shown=shown, size=output_size)


def _stored(model: Model, path: Path, size: int | None) -> Avatar:
    pictures, found = read_pictures(path, model.vae)
    side = len(pictures[0]) if pictures else 0
    if size not in (None, side):
        raise ConfigError(f"size is {size}, but {path} is an avatar of {side}: leave the size out")
    avatar = make_avatar(model, pictures, "none", side, posed=False)
    return replace(avatar, references=refilled(avatar.references, found, path))


def _sizes(model: Model, size: int | None) -> tuple[int, int]:
    """Sides of what the VAE sees and of the video."""
    preset = model.preset
    if size is None:
        return preset.working_size, preset.output_size
    multiple = 2 if preset.vae.warp is not None else model.vae.config.spatial_factor
    if size % multiple or not 64 <= size <= MAX_SIZE_PX:
        raise ConfigError(
            f"size is {size}, expected a multiple of {multiple} from 64 to {MAX_SIZE_PX} for the {preset.name} preset: "
            f"leave it out for {preset.output_size}"
        )
    return (size if preset.vae.warp is None else preset.working_size), size


def _crop(portrait: Portrait, mode: CropMode, size: int) -> PortraitCrop:
    if isinstance(portrait, np.ndarray):
        return crop_portrait(portrait, mode, size)
    image = read_image(portrait)
    try:
        return crop_portrait(image, mode, size)
    except ImageError as error:
        raise ImageError(f"{Path(portrait)}: {error}") from error


def resized(image: Pixels, size: int) -> Pixels:
    """A square picture at another size."""
    if image.shape[0] == size:
        return image
    interpolation = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), np.uint8)


def photographs(images: Sequence[Pixels], device: torch.device) -> Tensor:
    """Pictures `(H, W, 3)` uint8 as one person's references `(1, M, 3, H, W)`, float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1)[None]
