"""A corpus of animated portraits: who says what, how and when is planned from a seed; tasks then perform and render it.

A plan needs no pictures and no sound, so that any machine can make any shard of it, and always the same one. Portraits and
readers are paired within one split: neither a face nor a voice that is held out is in the training data.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vivavoz.data.corpus import FULL_SCALE, Portraits, Reader, Report, prepare_portraits, prepare_speech
from vivavoz.data.emotions import random_feelings
from vivavoz.data.gaze import gaze_angles
from vivavoz.data.performance import Performance, PerformanceConfig, State, perform
from vivavoz.data.phonemes import SILENCE, Phoneme
from vivavoz.data.shards.archive import write_shard
from vivavoz.data.shards.clip import MAX_FRAMES, PHONEMES, Clip, ClipInfo
from vivavoz.data.shards.codec import CODEC_VERSION
from vivavoz.data.shards.manifest import Manifest, split_of
from vivavoz.data.talkers import Talkers
from vivavoz.data.tasks import TaskResult, run_tasks, shard_url
from vivavoz.errors import ConfigError
from vivavoz.rig.labels import in_units
from vivavoz.rig.motion import COLUMN
from vivavoz.rig.rig import Rig
from vivavoz.timing import FRAME_RATE, SAMPLES_PER_FRAME

ANIMATOR_VERSION: Final = 2
"""Raised when the same plan, portrait and reading give another clip: shards of before are then made again."""
CLIPS_PER_SHARD: Final = 24
MIN_SPEECH_FRAMES: Final = 4 * FRAME_RATE
"""Shorter pieces of recordings are not spoken."""
_ROOM_NOISE: Final = 1e-4
"""Deviation of the sound of pauses that are put in: a room is never quite silent."""
_LIVELY: Final = PerformanceConfig(turn_deg=13.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlan:
    """One clip to come: a silent stretch, a piece of a recording, another silent stretch. Any of the three may be empty."""

    key: str
    portrait: str
    reader: str
    seed: int
    lead_frames: int
    first_frame: int
    """Where the piece of the recording begins."""
    speech_frames: int
    tail_frames: int
    lead_state: int
    """`State` before the piece, and in its pauses."""
    tail_state: int

    @property
    def num_frames(self) -> int:
        """How long the clip is."""
        return self.lead_frames + self.speech_frames + self.tail_frames


@dataclass(frozen=True, kw_only=True, slots=True)
class AnimationTask:
    """A shard of animated clips."""

    name: str
    plans: tuple[ClipPlan, ...]
    material: str
    """Hash of the portraits, readings and voices that the plans name."""
    licence: str


def animate(
    portraits: Path,
    speech: Path | None,
    folder: str,
    *,
    talkers: Talkers | None = None,
    hours: float,
    seed: int,
    cache: Path,
    licence: str = "unknown",
    ray_address: str | None = None,
    num_processes: int = 1,
    report: Report | None = None,
) -> Manifest:
    """Make a corpus of at least `hours` from a folder of portraits, and a folder of recordings, synthesised voices, or both.

    The same folders, hours and seed give the same bytes. A run that was stopped goes on where it was.

    Args:
        portraits: pictures of faces, one per person.
        speech: recordings, one or more per reader; None for none.
        folder: of the corpus: a path or fsspec URL.
        talkers: voices that espeak-ng makes, each as likely as a recording; every machine needs the same version of it.
        hours: length of the corpus.
        seed: of all chance.
        cache: where prepared portraits and speech are kept; all machines must see it.
        licence: of portraits and speech together.
        ray_address: a Ray cluster to work on.
        num_processes: on this machine.
        report: told about every file that is prepared and every shard that is made.

    Raises:
        ConfigError: no positive length, or neither recordings nor voices.
        DataError: a folder without usable pictures or recordings, or shards of another corpus in the way.
        OutputError: a shard cannot be written.
    """
    if speech is None and talkers is None:
        raise ConfigError("got no speech, expected a folder of recordings, languages to synthesise, or both: give one of them")
    people = prepare_portraits(portraits, cache, report=report)
    readers = [] if speech is None else prepare_speech(speech, cache, num_processes=num_processes, report=report)
    readings = [(reader.name, len(reader.samples)) for reader in readers]
    readings += [(name, MAX_FRAMES * SAMPLES_PER_FRAME) for name in (talkers.names if talkers else ())]
    plans = plan_clips(people.names, readings, hours=hours, seed=seed)
    material = _hash_of(people, readers, talkers)
    tasks = [
        AnimationTask(
            name=f"animated-{seed}-{index:06d}",
            plans=tuple(plans[start : start + CLIPS_PER_SHARD]),
            material=material,
            licence=licence,
        )
        for index, start in enumerate(range(0, len(plans), CLIPS_PER_SHARD))
    ]
    del people, readers  # the workers, this process maybe among them, load their own
    work = functools.partial(make_shard, portraits=portraits, speech=speech, talkers=talkers, cache=cache, folder=folder)
    made_by = f"animator {ANIMATOR_VERSION}, codec {CODEC_VERSION}"
    return run_tasks(tasks, work, folder, made_by=made_by, ray_address=ray_address, num_processes=num_processes, report=report)


def plan_clips(portraits: Sequence[str], readings: Sequence[tuple[str, int]], *, hours: float, seed: int) -> list[ClipPlan]:
    """Plans of at least `hours` together, from names of portraits and names and lengths (in samples) of recordings.

    Every portrait comes once before any comes twice. Raises `ConfigError` where `hours` is not positive.
    """
    if not hours > 0:
        raise ConfigError(f"got {hours} hours, expected more than none")
    rng = np.random.default_rng(seed)
    plans: list[ClipPlan] = []
    order: list[str] = []
    num_frames = 0
    while num_frames < hours * 3600 * FRAME_RATE:
        order = order or [portraits[index] for index in rng.permutation(len(portraits))]
        portrait = order.pop()
        split = split_of(portrait)
        alike = [reading for reading in readings if split_of(reading[0]) == split] or list(readings)
        reader, num_samples = alike[int(rng.integers(len(alike)))]
        plans.append(_plan_clip(rng, f"{seed}-{len(plans):07d}", portrait, reader, num_samples // SAMPLES_PER_FRAME))
        num_frames += plans[-1].num_frames
    return plans


def make_shard(
    task: AnimationTask, *, portraits: Path, speech: Path | None, talkers: Talkers | None, cache: Path, folder: str
) -> TaskResult:
    """Perform, render and store the clips of a task."""
    people, readers = _material(portraits, speech, cache)

    def reader_of(plan: ClipPlan) -> Reader:
        if talkers is None or plan.reader in readers:
            return readers[plan.reader]
        return talkers.reader(plan.reader, seed=plan.seed, seconds=(plan.first_frame + plan.speech_frames) / FRAME_RATE)

    clips = (make_clip(plan, people, reader_of(plan), licence=task.licence) for plan in task.plans)
    return TaskResult(shard=write_shard(shard_url(folder, task), clips))


def make_clip(plan: ClipPlan, portraits: Portraits, reader: Reader, *, licence: str) -> Clip:
    """Perform and render one clip: pictures at 512, sound, landmarks and every label."""
    samples, performance = act(plan, reader)
    who = portraits.names.index(plan.portrait)
    rig = portraits.rig(who)
    return Clip(
        info=ClipInfo(
            key=plan.key,
            identity=plan.portrait,
            source=f"{plan.portrait} {plan.reader}",
            licence=licence,
            split=split_of(plan.portrait),
            num_frames=plan.num_frames,
            facts={
                "seed": plan.seed,
                "reader": plan.reader,
                "start_s": plan.first_frame / FRAME_RATE,
                "animated": True,
                **reader.facts,
            },
        ),
        frames=np.stack([rig.render(row, 512, flow_size=0).image for row in performance.motion]),
        samples=samples,
        landmarks=np.stack([rig.landmarks(row) for row in performance.motion]),
        labels=clip_labels(performance, rig),
    )


def act(plan: ClipPlan, reader: Reader) -> tuple[NDArray[np.float32], Performance]:
    """The sound of a clip, (640 T,), and what a person does to it."""
    samples, phonemes = _sound(plan, reader)
    performance = perform(
        samples,
        seed=plan.seed,
        phonemes=phonemes,
        pause_states=np.repeat(
            np.array([plan.lead_state, plan.tail_state], np.uint8), [plan.lead_frames + plan.speech_frames, plan.tail_frames]
        ),
        feelings=random_feelings(plan.num_frames, seed=plan.seed),
        config=_LIVELY,
    )
    return samples, performance


def clip_labels(performance: Performance, rig: Rig) -> dict[str, NDArray]:
    """Every label that a clip can have, as `shards.clip.LABELS` says, from what was done rather than from what is seen."""
    motion = performance.motion
    labels, shape = rig.labels(motion), rig.expressions(motion)
    gaze = gaze_angles(np.stack([in_units(labels, "gaze_x"), in_units(labels, "gaze_y")], 1))
    pose = np.stack([in_units(labels, name) for name in ("yaw", "pitch", "roll")], 1)
    width = np.linalg.norm(shape[:, 291] - shape[:, 61], axis=1)
    lips = np.stack([in_units(labels, "opening"), width, shape[:, 17, 1] - shape[:, 0, 1]], 1)
    return {
        "state": performance.states,
        "expression": performance.feelings.expressions(),
        "expression_intensity": performance.feelings.intensities(),
        "gaze": gaze,
        "head_pose": np.radians(pose).astype(np.float32),
        "blink": motion[:, [COLUMN["blink_left"], COLUMN["blink_right"]]],
        "lip_shape": lips.astype(np.float32),
        "phoneme": phoneme_track(performance.phonemes, len(motion)),
    }


def phoneme_track(phonemes: Sequence[Phoneme], num_frames: int) -> NDArray[np.uint8]:
    """The phoneme at the middle of every picture, (F,), as its place in `PHONEMES`."""
    track = np.zeros(num_frames, np.uint8)
    middles_s = (np.arange(num_frames) + 0.5) / FRAME_RATE
    for phoneme in phonemes:
        first, last = np.searchsorted(middles_s, (phoneme.start_s, phoneme.end_s))
        track[first:last] = PHONEMES.index(phoneme.symbol)
    return track


def _plan_clip(rng: np.random.Generator, key: str, portrait: str, reader: str, reading_frames: int) -> ClipPlan:
    """Three of four clips speak, half of these with a silent stretch before or after; the fourth listens or idles throughout."""
    state, other = (int(value) for value in rng.permutation([State.LISTENING, State.IDLE]))
    speaks = rng.random() < 0.75 and reading_frames >= MIN_SPEECH_FRAMES
    silences = rng.integers(FRAME_RATE, 3 * FRAME_RATE, 2) * (rng.random(2) < 0.4)
    if not speaks:
        silences = rng.integers(2 * FRAME_RATE, 5 * FRAME_RATE, 2)
    longest = min(reading_frames, MAX_FRAMES - int(silences.sum()))
    length = int(rng.integers(MIN_SPEECH_FRAMES, longest + 1)) if speaks else 0
    return ClipPlan(
        key=key,
        portrait=portrait,
        reader=reader,
        seed=int(rng.integers(2**31)),
        lead_frames=int(silences[0]),
        first_frame=int(rng.integers(reading_frames - length + 1)) if speaks else 0,
        speech_frames=length,
        tail_frames=int(silences[1]),
        lead_state=state,
        tail_state=state if rng.random() < 0.5 else other,
    )


def _sound(plan: ClipPlan, reader: Reader) -> tuple[NDArray[np.float32], tuple[Phoneme, ...]]:
    """Sound of a clip, (640 T,), rounded to 16 bits, and its phonemes."""
    start = plan.first_frame * SAMPLES_PER_FRAME
    piece = reader.samples[start : start + plan.speech_frames * SAMPLES_PER_FRAME]
    samples = np.random.default_rng([plan.seed, 2]).normal(0, _ROOM_NOISE, plan.num_frames * SAMPLES_PER_FRAME)
    at = plan.lead_frames * SAMPLES_PER_FRAME
    samples[at : at + len(piece)] = piece
    shift_s = (plan.lead_frames - plan.first_frame) / FRAME_RATE
    low_s, high_s = plan.lead_frames / FRAME_RATE, (plan.lead_frames + plan.speech_frames) / FRAME_RATE
    said = list(_within(reader.phonemes, shift_s, low_s, high_s))
    silence = Phoneme(symbol=SILENCE, start_s=0.0, end_s=low_s)
    rest = Phoneme(symbol=SILENCE, start_s=high_s, end_s=plan.num_frames / FRAME_RATE)
    phonemes = tuple(phoneme for phoneme in (silence, *said, rest) if phoneme.end_s > phoneme.start_s)
    return (np.round(samples * FULL_SCALE) / FULL_SCALE).astype(np.float32), phonemes


def _within(phonemes: Sequence[Phoneme], shift_s: float, low_s: float, high_s: float) -> Iterator[Phoneme]:
    for phoneme in phonemes:
        start_s, end_s = max(phoneme.start_s + shift_s, low_s), min(phoneme.end_s + shift_s, high_s)
        if end_s > start_s:
            yield replace(phoneme, start_s=start_s, end_s=end_s)


@functools.lru_cache(maxsize=1)
def _material(portraits: Path, speech: Path | None, cache: Path) -> tuple[Portraits, dict[str, Reader]]:
    readers = [] if speech is None else prepare_speech(speech, cache)
    return prepare_portraits(portraits, cache), {reader.name: reader for reader in readers}


def _hash_of(people: Portraits, readers: Sequence[Reader], talkers: Talkers | None) -> str:
    digest = hashlib.sha256(people.images.tobytes() + people.landmarks.tobytes())
    if people.mattes is not None:
        digest.update(people.mattes.tobytes())
    for reader in readers:
        digest.update(f"{reader.name} {reader.phonemes}".encode() + reader.samples.tobytes())
    if talkers is not None:
        digest.update(repr(talkers).encode())
    return digest.hexdigest()[:20]
