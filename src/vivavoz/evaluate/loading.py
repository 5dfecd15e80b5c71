"""Material from prepared corpora: the portraits and recordings that training holds back, performed by the animator."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vivavoz.data.corpus import Portraits, Prepared, Reader, prepare_portraits, prepare_speech, split
from vivavoz.data.performance import perform
from vivavoz.evaluate.material import HeldPortrait, HeldSpeech, Material, spread
from vivavoz.train.recipes import LiteRecipe


def load_material(
    portraits: Path,
    speech: Path,
    cache: Path,
    *,
    num_portraits: int,
    num_speeches: int,
    held_only: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Material:
    """Portraits and recordings to measure on, at most so many of each, spread over what there is.

    Args:
        portraits: folder of pictures.
        speech: folder of recordings.
        cache: where training prepared them, or where they will be.
        num_portraits: the most to take.
        num_speeches: the most to take.
        held_only: only those that training with the same folders holds back; else all, for folders that it never saw.
        progress: told what is being prepared and what is left out.

    Raises:
        DataError: no such folder, nothing in it that can be used, or MediaPipe or pocketsphinx is missing.
    """

    def report(prepared: Prepared) -> None:
        if prepared.skipped:
            progress(f"left out {prepared.name}: {prepared.skipped}")
        elif prepared.num_done % 20 == 0:
            progress(f"preparing: {prepared.num_done}/{prepared.num_files}")

    return choose_material(
        prepare_portraits(portraits, cache, report=report),
        prepare_speech(speech, cache, report=report),
        num_portraits=num_portraits,
        num_speeches=num_speeches,
        held_only=held_only,
    )


def choose_material(
    portraits: Portraits, readers: Sequence[Reader], *, num_portraits: int, num_speeches: int, held_only: bool = True
) -> Material:
    """See `load_material`. Every recording is performed as it first is in training: with seed 0."""
    faces: list[int] = list(range(len(portraits.names)))
    voices: list[int] = list(range(len(readers)))
    if held_only:
        _, faces = split(portraits.names, LiteRecipe.num_held_portraits)
        _, voices = split([reader.name for reader in readers], LiteRecipe.num_held_readers)
    return Material(
        portraits=tuple(
            HeldPortrait(
                name=portraits.names[i], image=portraits.images[i], landmarks=portraits.landmarks[i], matte=portraits.matte(i)
            )
            for i in spread(faces, num_portraits)
        ),
        speeches=tuple(_performed(readers[i]) for i in spread(voices, num_speeches)),
    )


def _performed(reader: Reader) -> HeldSpeech:
    performance = perform(reader.samples, seed=0, phonemes=reader.phonemes)
    return HeldSpeech(name=reader.name, samples=reader.samples, phonemes=reader.phonemes, motion=performance.motion)
