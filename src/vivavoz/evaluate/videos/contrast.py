"""Recipes of the judges that the project trains itself: which sound belongs to which lips (`vivavoz sync`) or head (CAPP).

Both are contrastive (InfoNCE, as CLIP): of all windows of a batch each must find its own sound, and each sound its window. A
batch has several windows of every clip, so that a voice or a face alone gives nothing away.

Legend: C clips of a batch, n windows of each, W = C n.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoz.data.shards.clip import ClipInfo
from vivavoz.errors import ConfigError, DataError
from vivavoz.evaluate.videos import capp, sync
from vivavoz.evaluate.videos.clips import read_stored, stored_clips
from vivavoz.evaluate.videos.sync_scores import WINDOW_FRAMES

Clip = TypeVar("Clip", bound=capp.HeadClip)

_MAX_SCALE = 4.6
"""Of the logarithm of the comparison's sharpness: 100 at most, as in CLIP."""
_HEAD_GAP_FRAMES = 8
"""Windows of 3 s that begin so far apart tell different things."""
_TREMBLING, _ERRING = 0.12, 0.15
"""Usual errors of measured poses from picture to picture and over 0.2 s, in the units of `capp.pose_track`."""
_CROP_SHIFT_PX = 3
_READ_PX = 256
"""A mouth is 48 px wide at most: pictures of 512 would tell no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastConfig:
    """How a judge is trained."""

    minutes: float = 15.0
    max_steps: int = 20_000
    clips_per_batch: int = 16
    windows_per_clip: int = 6
    learning_rate: float = 1e-3
    held_share: float = 0.1
    """Share of clips that only measure."""
    max_clips: int = 20_000
    """Clips that are read, at most: they are kept in memory."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.minutes <= 0 or self.max_steps < 1 or self.clips_per_batch < 2 or self.windows_per_clip < 1:
            raise ConfigError(
                f"got {self.minutes} minutes, {self.max_steps} steps, {self.clips_per_batch} clips of {self.windows_per_clip} "
                "windows; expected > 0, >= 1, >= 2, >= 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Material(capp.HeadClip):
    """A clip as both judges see it."""

    info: ClipInfo
    mouths: Tensor
    """(T, 48, 48) uint8."""


def read_material(
    folders: Sequence[str], max_clips: int = 20_000, progress: Callable[[str], None] = lambda _: None
) -> list[Material]:
    """Mouths, poses and mel frames of the clips of corpora. Raises `DataError` where there are none."""
    found: list[Material] = []
    for folder in folders:
        for shard, stored in stored_clips(folder):
            if len(found) == max_clips:
                return found
            seen = read_stored(folder, shard, stored, _READ_PX)
            found.append(
                Material(
                    info=stored.info,
                    mouths=torch.from_numpy(sync.mouth_crops(seen)),
                    poses=torch.from_numpy(capp.pose_track(seen)),
                    mel=sync.mel_frames(seen.samples),
                )
            )
            if len(found) % 50 == 0:
                progress(f"{len(found)} clips read")
    return found


def split_material(material: Sequence[Material], config: ContrastConfig) -> tuple[list[Material], list[Material]]:
    """Clips to train on and clips held back: whole people, but single clips where a person is the only one of a corpus' few.

    People are drawn until the share is reached; a person with more than half of all clips is split by clip.
    """
    rng = np.random.default_rng(config.seed)
    by_person: dict[str, list[Material]] = {}
    for clip in material:
        by_person.setdefault(clip.info.identity, []).append(clip)
    train: list[Material] = []
    held: list[Material] = []
    others: list[list[Material]] = []
    for clips in by_person.values():
        if len(clips) > max(len(material) / 4, 20):
            order = rng.permutation(len(clips))
            count = round(config.held_share * len(clips))
            held += [clips[i] for i in order[:count]]
            train += [clips[i] for i in order[count:]]
        else:
            others.append(clips)
    wanted = config.held_share * sum(map(len, others))
    given = 0
    for i in rng.permutation(len(others)):
        part = held if given < wanted else train
        given += len(others[i])
        part += others[i]
    return train, held


def train_sync(
    material: Sequence[Material], config: ContrastConfig, progress: Callable[[str], None] = lambda _: None
) -> sync.SyncScorer:
    """Train `vivavoz sync`. Windows of a clip are at least two pictures apart.

    Raises:
        DataError: fewer clips than a batch takes, or too short ones.
    """
    torch.manual_seed(config.seed)
    network = sync.SyncScorer()
    windows = config.windows_per_clip
    usable = _long_enough(material, 2 * windows + WINDOW_FRAMES, config)

    def embed(clips: list[Material], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        first = [_apart(clip.num_frames - WINDOW_FRAMES + 1, windows, rng) for clip in clips]
        mouths = torch.cat([_jittered(sync.mouth_windows(c.mouths, at).float(), rng) for c, at in zip(clips, first, strict=True)])
        mel = torch.cat([_louder(sync.mel_windows(c.mel, at), rng) for c, at in zip(clips, first, strict=True)])
        return network.see(mouths), network.hear(mel)

    _train(network, network.log_scale, usable, embed, config, progress)
    return network


def train_capp(
    material: Sequence[capp.HeadClip], config: ContrastConfig, progress: Callable[[str], None] = lambda _: None
) -> capp.Capp:
    """Train CAPP's encoders. Windows of a clip are drawn anywhere in it, a few pictures apart: other times are hardest to tell.

    Raises:
        DataError: fewer clips than a batch takes, or too short ones.
    """
    torch.manual_seed(config.seed)
    network = capp.Capp()
    usable = _long_enough(material, capp.WINDOW_FRAMES, config)

    def embed(clips: Sequence[capp.HeadClip], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        poses, mel = [], []
        for clip in clips:
            room = clip.num_frames - capp.WINDOW_FRAMES + 1
            count = min(config.windows_per_clip, 1 + (room - 1) // _HEAD_GAP_FRAMES)
            first = _apart(room, count, rng, _HEAD_GAP_FRAMES)
            poses.append(_unsteady(capp.pose_windows(clip.poses, first), rng))
            mel.append(_louder(capp.mel_windows(clip.mel, first), rng))
        return network.feel(torch.cat(poses)), network.hear(torch.cat(mel))

    _train(network, network.log_scale, usable, embed, config, progress)
    return network


def contrastive_loss(ours: Tensor, theirs: Tensor, log_scale: Tensor) -> Tensor:
    """InfoNCE both ways of features (W, D) that belong together row by row."""
    similarity = log_scale.clamp_max(_MAX_SCALE).exp() * ours @ theirs.T
    own = torch.arange(len(ours), device=ours.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def _train(
    network: nn.Module,
    log_scale: Tensor,
    clips: Sequence[Clip],
    embed: Callable[[list[Clip], np.random.Generator], tuple[Tensor, Tensor]],
    config: ContrastConfig,
    progress: Callable[[str], None],
) -> None:
    """AdamW, the learning rate warmed up over 100 steps and brought down by a cosine over the time there is."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    rng = np.random.default_rng(config.seed)
    started_s = time.monotonic()
    mean_loss = float("nan")
    network.train()
    for step in range(config.max_steps):
        done = max((time.monotonic() - started_s) / (60 * config.minutes), step / config.max_steps)
        if done >= 1:
            break
        rate = config.learning_rate * min((step + 1) / 100, 0.5 * (1 + np.cos(np.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = [clips[i] for i in rng.choice(len(clips), size=config.clips_per_batch, replace=False)]
        loss = contrastive_loss(*embed(chosen, rng), log_scale)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        mean_loss = loss.item() if step == 0 else 0.98 * mean_loss + 0.02 * loss.item()
        if step % 50 == 0:
            progress(f"step {step}, loss {mean_loss:.3f}, {time.monotonic() - started_s:.0f} s")
    network.eval()


def _long_enough(material: Sequence[Clip], num_frames: int, config: ContrastConfig) -> list[Clip]:
    usable = [clip for clip in material if clip.num_frames >= num_frames]
    if len(usable) < config.clips_per_batch:
        raise DataError(
            f"got {len(usable)} clips of {num_frames} pictures or more, expected {config.clips_per_batch} at least: "
            "give a larger corpus or smaller batches"
        )
    return usable


def _apart(room: int, count: int, rng: np.random.Generator, gap: int = 2) -> Tensor:
    """So many places of 0 to `room` - 1, at least `gap` apart."""
    chosen = np.sort(rng.choice(room - (count - 1) * (gap - 1), size=count, replace=False))
    return torch.from_numpy(chosen + (gap - 1) * np.arange(count))


def _jittered(mouths: Tensor, rng: np.random.Generator) -> Tensor:
    """Windows (W, 5, S, S) shifted by up to three pixels, mirrored or not, all the same way: landmarks differ, mouths too."""
    across, down = rng.integers(-_CROP_SHIFT_PX, _CROP_SHIFT_PX + 1, 2)
    side = mouths.shape[-1]
    padded = F.pad(mouths, (_CROP_SHIFT_PX,) * 4, mode="replicate")
    top, left = _CROP_SHIFT_PX + int(down), _CROP_SHIFT_PX + int(across)
    moved = padded[..., top : top + side, left : left + side]
    return moved.flip(-1) if rng.random() < 0.5 else moved


def _louder(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Mel windows of sound up to 10 dB softer or louder, all the same way (0.8 of the scale are 10 dB)."""
    return (mel + float(rng.uniform(-0.8, 0.8))).clamp(-4, 4)


def _unsteady(poses: Tensor, rng: np.random.Generator) -> Tensor:
    """Windows (W, 75, P) as a face finder might have measured them, all the same way.

    It sees less or more of a turn than there is, trembles from picture to picture, errs for some tenths of a second, and may see
    nothing of a figure at all; left and right may be swapped.
    """
    num_figures = poses.shape[-1]

    def levels(usual: float) -> Tensor:
        return torch.from_numpy(usual * rng.lognormal(0, 0.7, num_figures)).float()

    gains = torch.from_numpy(rng.uniform(0.4, 1.3, num_figures) * (rng.random(num_figures) > 0.1)).float()
    trembling = torch.from_numpy(rng.standard_normal(poses.shape)).float()
    slow = torch.from_numpy(rng.standard_normal((len(poses), poses.shape[1] // 5 + 2, num_figures))).float()
    erring = F.interpolate(slow.transpose(1, 2), size=poses.shape[1], mode="linear", align_corners=True).transpose(1, 2)
    seen = poses * gains + levels(_TREMBLING) * trembling + levels(_ERRING) * erring
    return seen * torch.tensor(capp.MIRRORED) if rng.random() < 0.5 else seen
