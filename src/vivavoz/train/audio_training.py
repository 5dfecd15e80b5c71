"""A first training of the `lite` audio encoder: mel windows to the lips of the picture they belong to and of its neighbours.

The paper's audio encoder comes trained (Wav2Lip's). The embedded one learns to hear lip shapes by plain regression, which takes
minutes; the generator then trains on its features, which are computed once.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vivavoz.audio.encoder import AudioEncoder
from vivavoz.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from vivavoz.train.generator_training import Take


@dataclass(frozen=True, kw_only=True)
class AudioTraining:
    """Settings of a run; it lasts `budget_s` seconds of training."""

    budget_s: float
    batch_size: int = 256
    learning_rate: float = 2e-3
    num_lip_labels: int = 7
    """The first so many labels speak of the lips."""
    num_neighbours: int = 2
    """Pictures before and after the window's own whose lips are also to be told from it."""
    save_every_s: float = 120.0
    seed: int = 0


def train_audio_encoder(
    encoder: AudioEncoder,
    takes: Sequence[Take],
    settings: AudioTraining,
    folder: Path,
    *,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train until the budget is spent; resumes from `folder/audio.pt` and logs to `folder/audio.jsonl`.

    `report` is handed every line of the log as it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reach = settings.num_neighbours
    head = nn.Linear(encoder.config.num_features, settings.num_lip_labels * (2 * reach + 1))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=1e-2)
    modules: dict[str, nn.Module] = {"audio": encoder, "head": head}
    progress = load_checkpoint(folder / "audio.pt", modules, optimizer)
    step, spent, saved = progress.step, progress.seconds, progress.seconds
    rng = np.random.default_rng([settings.seed, step])
    losses: list[float] = []
    encoder.train()
    while spent < settings.budget_s:
        begin = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.02 - spent / settings.budget_s)
        windows, lips = [], []
        for take in (takes[i] for i in rng.integers(len(takes), size=8)):
            frames = rng.integers(reach, min(len(take.windows), take.labels.shape[1]) - reach, size=settings.batch_size // 8)
            windows.append(take.windows[torch.from_numpy(frames)])
            around = frames[:, None] + np.arange(-reach, reach + 1)
            lips.append(torch.from_numpy(take.labels[0][around, : settings.num_lip_labels]).flatten(1))
        mel = torch.cat(windows)
        gain = torch.from_numpy(rng.normal(0, 0.25, (len(mel), 1, 1)).astype(np.float32))  # louder and softer: +-3 dB
        heard = encoder((mel + gain).clamp(-4, 4).unsqueeze(0)).squeeze(0)
        loss = F.smooth_l1_loss(head(heard), torch.cat(lips))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        step, spent = step + 1, spent + time.monotonic() - begin
        if step % 20 == 0:
            line = {"step": step, "seconds": round(spent, 1), "loss": sum(losses) / len(losses)}
            losses.clear()
            with (folder / "audio.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            if report is not None:
                report(line)
        if spent - saved > settings.save_every_s:
            saved = spent
            save_checkpoint(folder / "audio.pt", Progress(step, spent), modules, optimizer)
    save_checkpoint(folder / "audio.pt", Progress(step, spent), modules, optimizer)
    encoder.eval()
