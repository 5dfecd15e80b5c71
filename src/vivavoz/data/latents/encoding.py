"""Encoding a corpus once, so that the generator's training never sees a picture (paper, supplement B): shard by shard.

Legend: T frames of a clip, S side in px, N latents, C channels, h w rows and columns of a latent.
"""

import functools
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vivavoz.data.corpus import Report
from vivavoz.data.latents.controls import control_rows
from vivavoz.data.latents.store import VERSION, WEIGHTS_NAME, EncodedClip, LatentsInfo, mel_of_windows, pack, reference_frames
from vivavoz.data.shards.clip import SIZES_PX
from vivavoz.data.shards.codec import decode_arrays, decode_frames, decode_sound
from vivavoz.data.shards.manifest import Manifest, Shard, StoredClip
from vivavoz.data.shards.storage import join, read_bytes, remove_unfinished, size_of, writing_whole
from vivavoz.data.tasks import TaskResult, run_tasks
from vivavoz.engine.model import Model
from vivavoz.engine.weights import CONFIG_FILE, GENERATOR_FILE, VAE_FILE, check_device, find_weights, load, read_preset
from vivavoz.errors import ConfigError, DataError
from vivavoz.timing import FRAMES_PER_LATENT, latents_of_frames
from vivavoz.vae.vae import VAE

_CHUNK_FRAMES = 16
"""Frames that are encoded at a time; the encoder carries on from chunk to chunk as in a live stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeTask:
    """A shard of clips to encode."""

    name: str
    shard: Shard
    info: LatentsInfo


def encode_corpus(
    shards: str,
    weights: str,
    folder: str,
    *,
    device: str | None = None,
    ray_address: str | None = None,
    num_processes: int = 1,
    report: Report | None = None,
) -> Manifest:
    """Encode every clip of `shards` into `folder`; what is done stays done, and a run that was stopped goes on where it was.

    Args:
        shards: the corpus: a path or any fsspec URL.
        weights: a preset whose weights ship, or a folder with weights; copied into `folder`, where training finds them.
        folder: for the latents: a path or any fsspec URL.
        device: to encode on (None: a CUDA device if there is one, else the CPU).
        ray_address: a Ray cluster to work on ("local": all GPUs of this machine); its machines must see all three.
        num_processes: on this machine.
        report: told about every shard.

    Raises:
        ConfigError: the model sees larger pictures than shards have, or no such device.
        DataError: no corpus of clips, or `folder` holds something else.
        OutputError: `folder` cannot be written.
        WeightsError: weights that cannot be used.
    """
    source = find_weights(weights)
    preset = read_preset(source)
    if preset.working_size > max(SIZES_PX):
        raise ConfigError(f"{weights} sees pictures of {preset.working_size} px, expected at most {max(SIZES_PX)}")
    manifest = Manifest.load(shards)
    if any("flac" not in clip.members for shard in manifest.shards for clip in shard.clips):
        raise DataError(f"{shards} holds no pictures and sound; give the shards that `vivavoz data` makes")
    info = LatentsInfo(
        weights=_digest(source),
        size_px=preset.working_size,
        channels=preset.vae.latent_channels,
        side=preset.working_size // preset.vae.spatial_factor,
    )
    info.save(folder)
    _copy_weights(source, folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if ray_address is None:
        check_device(device)
    tasks = [EncodeTask(name=shard.name.removesuffix(".tar"), shard=shard, info=info) for shard in manifest.shards]
    work = functools.partial(encode_shard, shards=shards, weights=source, folder=folder, device=device)
    return run_tasks(
        tasks,
        work,
        folder,
        made_by=f"vivavoz encode {VERSION}",
        ray_address=ray_address,
        gpus_per_task=1 if device.startswith("cuda") else 0,
        num_processes=num_processes,
        report=report,
    )


def encode_shard(task: EncodeTask, *, shards: str, weights: Path, folder: str, device: str) -> TaskResult:
    """Encode the clips of one shard and write them as one file."""
    model = _model(weights, device)
    url = join(shards, task.shard.name)
    content, clips = pack([_encode_clip(clip, url, model, task.info.size_px) for clip in task.shard.clips])
    name = f"{task.name}.safetensors"
    remove_unfinished(join(folder, name))
    with writing_whole(join(folder, name)) as file:
        file.write(content)
    return TaskResult(shard=Shard(name=name, num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), clips=clips))


@torch.inference_mode()
def encode_video(vae: VAE, frames: NDArray[np.uint8], size_px: int) -> Tensor:
    """Frames (T, S, S, 3), T = 1 + 4n, to the posterior's means, (N, C, h, w) float32, chunk by chunk."""
    state = vae.init_encoder_state(1, size_px, size_px)
    chunks = [frames[start : start + _CHUNK_FRAMES] for start in range(0, len(frames), _CHUNK_FRAMES)]
    means = [vae.encode(_seen(chunk, vae, size_px).transpose(0, 1)[None], state).mean for chunk in chunks]
    return torch.cat(means, dim=2)[0].transpose(0, 1).float()


@torch.inference_mode()
def encode_pictures(vae: VAE, frames: NDArray[np.uint8], size_px: int) -> Tensor:
    """Single frames (R, S, S, 3), each as a video of its own, to (R, C, h, w) float32."""
    pictures = _seen(frames, vae, size_px).unsqueeze(2)
    return torch.cat([vae.encode(part).mean for part in pictures.split(_CHUNK_FRAMES)]).squeeze(2).float()


def fetch_weights(folder: str, into: Path) -> Path:
    """The weights beside latents, as a folder of this machine: where they are, or copied `into` one. Raises `DataError`."""
    if Path(folder).is_dir():
        return Path(folder) / WEIGHTS_NAME
    into.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, VAE_FILE, GENERATOR_FILE):
        (into / name).write_bytes(read_bytes(join(join(folder, WEIGHTS_NAME), name)))
    return into


def _encode_clip(clip: StoredClip, url: str, model: Model, size_px: int) -> EncodedClip:
    stored_px = min(size for size in SIZES_PX if size >= size_px)
    num_frames = 1 + (clip.info.num_frames - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT
    video = decode_frames(clip.read(url, f"{stored_px}.mp4"), range(num_frames), clip.info.key)
    samples = torch.from_numpy(decode_sound(clip.read(url, "flac"), clip.info.key))
    labels = decode_arrays(clip.read(url, "npz"), clip.info.key)
    with torch.inference_mode():
        windows = model.audio.windows(samples[None].to(model.device))[0, :num_frames]
    return EncodedClip(
        info=clip.info,
        latents=encode_video(model.vae, video, size_px),
        references=encode_pictures(model.vae, video[reference_frames(num_frames)], size_px),
        mel=mel_of_windows(windows),
        controls=control_rows(labels, latents_of_frames(num_frames)),
    )


def _seen(frames: NDArray[np.uint8], vae: VAE, size_px: int) -> Tensor:
    """(T, S, S, 3) to (T, 3, size_px, size_px) in [-1, 1], where and as what the VAE computes."""
    weight = next(vae.parameters())
    pictures = torch.from_numpy(frames).to(weight.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if pictures.shape[-1] != size_px:
        pictures = F.interpolate(pictures, (size_px, size_px), mode="area")
    return pictures.to(weight.dtype)


def _copy_weights(source: Path, folder: str) -> None:
    for name in (CONFIG_FILE, VAE_FILE, GENERATOR_FILE):
        url = join(join(folder, WEIGHTS_NAME), name)
        if size_of(url) is None:
            with (source / name).open("rb") as original, writing_whole(url) as copy:
                shutil.copyfileobj(original, copy, 1 << 20)


def _digest(weights: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, VAE_FILE):
        with (weights / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _model(weights: Path, device: str) -> Model:
    return load(weights, device=device, dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32)
