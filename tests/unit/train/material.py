"""Drawn faces with known landmarks, noise for speech, and everything else a small training needs."""

import wave
from dataclasses import replace
from functools import cache

import numpy as np
import skimage.data

from tests.unit.rig.test_rig import face_image, face_landmarks
from vivavoz.data.corpus import Portraits, prepare_portraits, prepare_speech
from vivavoz.data.phonemes import Phoneme
from vivavoz.media.image import write_image
from vivavoz.presets import tiny
from vivavoz.train.audio_training import AudioTraining
from vivavoz.train.clips import ClipConfig
from vivavoz.train.encoder_training import EncoderTraining
from vivavoz.train.face_training import FaceTraining
from vivavoz.train.generator_training import GeneratorTraining
from vivavoz.train.loop import LoopConfig
from vivavoz.train.recipes import LiteRecipe, VAEPhase
from vivavoz.train.rig_deck import DeckConfig
from vivavoz.train.vae_training import VAETraining


@cache
def portraits(count=2):
    """Drawn people who differ in light and in their lips."""
    points = [face_landmarks(gap=0.02 * index) for index in range(count)]
    images = [np.clip(face_image(p) * (1 - 0.15 * index), 0, 255).astype(np.uint8) for index, p in enumerate(points)]
    return Portraits(images=np.stack(images), landmarks=np.stack(points), names=tuple(f"{i}.png" for i in range(count)))


def clip_config(**changes):
    """Small clips."""
    deck = DeckConfig(num_rigs=2, batches_per_deal=24)
    small = ClipConfig(num_people=1, clips_per_person=2, num_frames=1, size=64, reference_odds=(0.0, 1.0), deck=deck)
    return replace(small, **changes)


def small_preset():
    """The tiny model, as shallow as training allows."""
    preset = tiny(warp=True)
    return replace(preset, vae=replace(preset.vae, outer_temporal_kernel=1, inner_temporal_kernel=1))


def small_recipe(budget_s=0.0):
    """Every phase of `lite`'s recipe, three steps each where there is no budget."""
    clips = clip_config(clips_per_person=1)
    loop = LoopConfig(budget_s=budget_s, num_steps=0 if budget_s else 3, log_every_steps=1)
    flows = VAETraining(loop=loop, pixel_weight=0.0)
    pixels = VAETraining(loop=loop, joint_odds=1.0)
    speech = GeneratorTraining(loop=loop, batch_size=2, num_latents=2, latent_side=1)
    return LiteRecipe(
        preset=small_preset(),
        face=FaceTraining(loop=loop, batch_size=2, size=64, deck=DeckConfig(num_rigs=2, hybrid_odds=0.5)),
        vae=(VAEPhase(clips=clips, training=flows), VAEPhase(clips=replace(clips, num_frames=5), training=pixels)),
        encoder_clips=replace(clips, reference_odds=(1.0,)),
        num_encoder_batches=2,
        encoder=EncoderTraining(loop=loop, batch_size=2),
        audio=AudioTraining(loop=loop, batch_size=8),
        generator=(speech, replace(speech, batch_size=1)),
        hours=0.003,
        num_render_processes=0,
    )


def write_material(portraits_dir, speech_dir, corpus, num_recordings=2, num_samples=66_000):
    """Two photographs and some noise, prepared in `corpus` without MediaPipe and pocketsphinx."""
    for folder in (portraits_dir, speech_dir):
        folder.mkdir(parents=True)
    photograph = skimage.data.astronaut()
    for name, light in (("a.png", 1.0), ("b.png", 0.8)):
        write_image(portraits_dir / name, (photograph * light).astype(np.uint8))
    rng = np.random.default_rng(0)
    for index in range(num_recordings):
        write_sound(speech_dir / f"{index}.wav", 0.3 * rng.uniform(-1, 1, num_samples))
    prepare_portraits(portraits_dir, corpus, detect=lambda image: face_landmarks())
    prepare_speech(speech_dir, corpus, hear=hear)


def hear(samples):
    """Two sounds that meet in the middle."""
    half_s = len(samples) / 32_000
    return [Phoneme(symbol="AA", start_s=0.0, end_s=half_s), Phoneme(symbol="M", start_s=half_s, end_s=2 * half_s)]


def write_sound(path, samples):
    """Mono, 16 bits, 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
