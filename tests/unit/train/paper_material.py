"""A corpus of three short clips, small recipes, and (as a program of torchrun) a run of each on two processes."""

import sys
from dataclasses import replace
from pathlib import Path

from tests.models import tiniest
from tests.unit.data.shards.material import make_clip
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.manifest import Manifest
from vivavoz.engine.model import Model
from vivavoz.engine.weights import save_model
from vivavoz.train.distributed import parallel_processes
from vivavoz.train.paper_recipes import shortened_latent, shortened_video, tiny_generator_recipe, tiny_vae_recipe
from vivavoz.train.paper_training import train_latents, train_video
from vivavoz.train.perceptual import choose_perceptual

NUM_FRAMES = 39
"""Of a clip: 10 latents and two frames that complete none."""


def write_corpus(folder):
    """Two shards: two clips of Anna and one of Bo."""
    folder.mkdir()
    shards = [
        write_shard(
            f"{folder}/{name}.tar", [make_clip(key, identity=key[:-2], num_frames=NUM_FRAMES, split="train") for key in keys]
        )
        for name, keys in (("one", ("anna-1", "anna-2")), ("two", ("bo-1",)))
    ]
    Manifest(shards=tuple(shards)).save(str(folder))
    return str(folder)


def write_weights(folder, seed=0):
    """A small model that nobody has trained."""
    save_model(Model.initialised(tiniest(), seed), folder)
    return str(folder)


def video_recipe(save_every_s=1e-9, **changes):
    """Three steps of each of two phases, every one in the log and, as it is, in a checkpoint.

    Small steps: the distance of pixels has a kink where they agree. At the recipe's own rate, what rounding changed in the first
    step (another thing on every kind of processor) had taken some pixels over it by the third.
    """
    recipe = replace(shortened_video(tiny_vae_recipe(), 3), preset=tiniest(), **changes)
    loops = [replace(phase.loop, learning_rate=5e-4, save_every_s=save_every_s) for phase in recipe.phases]
    phases = [replace(phase, loop=loop, batch_size=2) for phase, loop in zip(recipe.phases, loops, strict=True)]
    return replace(recipe, phases=tuple(phases))


def latent_recipe(save_every_s=1e-9, **changes):
    """Three steps on windows of 8 latents."""
    recipe = replace(shortened_latent(tiny_generator_recipe(), 3), preset=tiniest(), **changes)
    return replace(recipe, loop=replace(recipe.loop, save_every_s=save_every_s))


def main() -> None:
    """`paper_material.py SHARDS LATENTS OUT`: the generator by DDP, then by FSDP2, and a phase of the VAE by FSDP2."""
    shards, latents, out = sys.argv[1:]
    recipe = video_recipe(1e9, checkpointing=True)
    with parallel_processes("ddp") as ddp:
        train_latents(latents, Path(out, "ddp"), latent_recipe(1e9), parallel=ddp)
        fsdp = replace(ddp, kind="fsdp")
        train_latents(latents, Path(out, "fsdp"), latent_recipe(1e9, checkpointing=True), parallel=fsdp)
        train_video(shards, Path(out, "video"), replace(recipe, phases=recipe.phases[:1]), choose_perceptual(), parallel=fsdp)


if __name__ == "__main__":
    main()
