"""Corpora for the animator: a folder of pictures becomes portraits with landmarks, a folder of recordings becomes readers.

Both are prepared once and kept in a cache folder under a hash of the files' contents, so that a second run only reads them.
Legend: `P` portraits, `N` samples at 16 kHz.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivavoz.audio.reading import is_silent, read_audio
from vivavoz.data.phonemes import Phoneme, align, recognise
from vivavoz.data.shards.clip import Fact
from vivavoz.errors import AudioError, DataError, ImageError
from vivavoz.media.crop import crop_portrait
from vivavoz.media.image import read_image
from vivavoz.media.output import whole_file, writing
from vivavoz.rig.head_pose import angles, fit_head
from vivavoz.rig.landmarks import detect_landmarks
from vivavoz.rig.matte import Matte, person_matte
from vivavoz.rig.rig import Rig
from vivavoz.rig.warp import PORTRAIT_SIZE_PX

PICTURE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff")
SOUND_SUFFIXES: Final = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

MAX_YAW_DEG: Final = 12.0
"""Portraits whose head is turned further hide a cheek, which smears when they are animated."""

FULL_SCALE: Final = np.float32(32768)
"""16-bit samples per 1.0."""

_VERSION: Final = b"1"
"""Part of every hash: raised when prepared files of before no longer fit."""
_PORTRAITS_VERSION: Final = b"2"
"""The same of portraits alone."""

Detect: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Recognise: TypeAlias = Callable[[NDArray[np.float32]], Sequence[Phoneme]]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Word that one more file of a corpus, or another piece of data, has been dealt with."""

    name: str
    num_done: int
    num_files: int
    skipped: str = ""
    """Why the file is left out; empty if it is not."""


Report: TypeAlias = Callable[[Prepared], None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Portraits:
    """Portraits as the animator wants them, in the order of their names."""

    images: NDArray[np.uint8]
    """(P, 512, 512, 3) RGB."""
    landmarks: NDArray[np.float32]
    """(P, 478, 3) in pixels."""
    names: tuple[str, ...]
    """Paths within the folder."""
    mattes: NDArray[np.uint8] | None = None
    """(P, 512, 512), 255 on the person; None where nobody has made them."""

    def matte(self, index: int) -> Matte | None:
        """Matte (512, 512) of one portrait, if there are any."""
        return None if self.mattes is None else self.mattes[index]

    def chosen(self, indices: Sequence[int]) -> "Portraits":
        """Some of them."""
        return Portraits(
            images=self.images[indices],
            landmarks=self.landmarks[indices],
            names=tuple(self.names[i] for i in indices),
            mattes=None if self.mattes is None else self.mattes[indices],
        )

    def rig(self, index: int) -> Rig:
        """One portrait, ready to be animated."""
        return Rig.from_image(self.images[index], self.landmarks[index], self.matte(index))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reader:
    """One recording and what is said in it."""

    name: str
    """Path within the folder."""
    samples: NDArray[np.float32]
    """(N,) in [-1, 1], rounded to 16 bits."""
    phonemes: tuple[Phoneme, ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What else is known of it: of synthesised speech, who made it, the voice and the text."""


def prepare_portraits(folder: Path, cache: Path, *, detect: Detect = detect_landmarks, report: Report | None = None) -> Portraits:
    """Crop every picture of a folder (and those in it), find its landmarks and part the person from the background.

    Left out, with the reason in `report`: what is no picture, has no face, or a head turned by more than 12 degrees.

    Args:
        folder: where the pictures are.
        cache: where the result is kept, as one file.
        detect: landmarks (478, 3) of a crop (512, 512, 3).
        report: told about every file, unless the cache has them all.

    Raises:
        DataError: no such folder, no picture in it that can be used, MediaPipe is missing, or a damaged cache.
        OutputError: the cache cannot be written.
    """
    paths = _files(folder, PICTURE_SUFFIXES, "pictures")
    stored = cache / f"portraits-{_hash_of_portraits(folder, paths)}.npz"
    if not stored.is_file():
        images: list[NDArray[np.uint8]] = []
        landmarks: list[NDArray[np.float32]] = []
        mattes: list[Matte] = []
        names: list[str] = []
        first_reason = ""
        for index, path in enumerate(paths):
            name, reason = path.relative_to(folder).as_posix(), ""
            try:
                image, points = _frame(path, detect)
                images.append(image)
                landmarks.append(points)
                mattes.append(person_matte(image))
                names.append(name)
            except (ImageError, DataError) as error:
                if isinstance(error.__cause__, ImportError):  # a missing library is not the picture's fault
                    raise
                reason = str(error)
                first_reason = first_reason or f"{name}: {reason}"
            if report is not None:
                report(Prepared(name=name, num_done=index + 1, num_files=len(paths), skipped=reason))
        if not names:
            raise DataError(f"none of {len(paths)} pictures in {folder} can be used ({first_reason}); give frontal portraits")
        _save(stored, images=np.stack(images), landmarks=np.stack(landmarks), names=np.array(names), mattes=np.stack(mattes))
    all_images, all_landmarks, all_names, all_mattes = _load(stored, "images", "landmarks", "names", "mattes")
    return Portraits(images=all_images, landmarks=all_landmarks, names=tuple(map(str, all_names)), mattes=all_mattes)


def prepare_speech(
    folder: Path, cache: Path, *, hear: Recognise = recognise, num_processes: int = 1, report: Report | None = None
) -> list[Reader]:
    """Read every recording of a folder (and those in it) and find its phonemes.

    Words in a text file beside the recording (`a.flac`, `a.txt`) are aligned; without them, or where they do not fit, sounds are
    recognised.

    Each recording is kept in a file of its own as soon as it is done, so a run that is stopped goes on where it was. What
    cannot be read, or is silent, is left out, with the reason in `report`.

    Args:
        folder: where the recordings are; English, best of a few seconds to a minute each.
        cache: where the results are kept.
        hear: phonemes of samples (N,); must be picklable with more than one process.
        num_processes: how many recordings to hear at a time.
        report: told about every file that the cache lacks.

    Raises:
        DataError: no such folder, no recording in it that can be used, pocketsphinx is missing, or a damaged cache.
        OutputError: the cache cannot be written.
    """
    paths = _files(folder, SOUND_SUFFIXES, "recordings")
    stored = [cache / "speech" / f"{_hash(path, path.with_suffix('.txt'))}.npz" for path in paths]
    missing = [(path, target) for path, target in zip(paths, stored, strict=True) if not target.is_file()]
    reasons: dict[Path, str] = {}
    with _mapping(min(num_processes, len(missing))) as each:
        results = each(partial(_prepare_reader, hear=hear), missing)
        for index, ((path, _), reason) in enumerate(zip(missing, results, strict=True)):
            reasons[path] = reason
            if report is not None:
                name = path.relative_to(folder).as_posix()
                report(Prepared(name=name, num_done=index + 1, num_files=len(missing), skipped=reason))
    readers = []
    for path, target in zip(paths, stored, strict=True):
        if reasons.get(path):
            continue
        samples, symbols, start_s, end_s = _load(target, "samples", "symbols", "start_s", "end_s")
        rows = zip(symbols.tolist(), start_s.tolist(), end_s.tolist(), strict=True)
        phonemes = tuple(Phoneme(symbol=symbol, start_s=start, end_s=end) for symbol, start, end in rows)
        name = path.relative_to(folder).as_posix()
        readers.append(Reader(name=name, samples=samples.astype(np.float32) / FULL_SCALE, phonemes=phonemes))
    if not readers:
        raise DataError(f"none of {len(paths)} recordings in {folder} can be used ({next(iter(reasons.values()))}); give others")
    return readers


def split(names: Sequence[str], num_held: int) -> tuple[list[int], list[int]]:
    """Indices to train on and indices to hold back: `num_held`, but at most a seventh, spread evenly over the sorted names."""
    order = sorted(range(len(names)), key=lambda index: names[index])
    num_held = min(num_held, len(names) // 7)
    held = order[:: len(names) // num_held][:num_held] if num_held else []
    return [index for index in order if index not in set(held)], held


def _frame(path: Path, detect: Detect) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop and landmarks of a picture file; raises `ImageError` or `DataError` where it cannot be used."""
    image = crop_portrait(read_image(path), size=PORTRAIT_SIZE_PX).image
    points = detect(image)
    yaw_deg = angles(fit_head(points).rotation)[0]
    if abs(yaw_deg) > MAX_YAW_DEG:
        raise DataError(f"the head is turned by {abs(yaw_deg):.1f} degrees; expected at most {MAX_YAW_DEG:.0f}")
    return image, points


def _prepare_reader(source_and_target: tuple[Path, Path], hear: Recognise) -> str:
    """Write what is heard in a file; gives the reason where it cannot be used, and then writes nothing."""
    source, target = source_and_target
    try:
        samples = read_audio(source)
    except AudioError as error:
        return str(error)
    if is_silent(samples):
        return f"{source} is silent"
    pcm = np.clip(np.round(samples * FULL_SCALE), -32768, 32767).astype(np.int16)
    samples = pcm.astype(np.float32) / FULL_SCALE
    phonemes = _aligned(samples, source.with_suffix(".txt")) or hear(samples)
    symbols, start_s, end_s = (np.array([getattr(p, name) for p in phonemes]) for name in ("symbol", "start_s", "end_s"))
    _save(target, samples=pcm, symbols=symbols, start_s=start_s, end_s=end_s)
    return ""


def _aligned(samples: NDArray[np.float32], text: Path) -> Sequence[Phoneme]:
    """Phonemes of the words in a text file; none where there is no such file, or its words do not fit the sound."""
    try:
        return align(samples, text.read_text(encoding="utf-8").split())
    except (FileNotFoundError, UnicodeDecodeError):
        return ()
    except DataError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        return ()


@contextmanager
def _mapping(num_processes: int) -> Iterator[Callable[[Callable[[Item], str], Sequence[Item]], Iterator[str]]]:
    """A `map` over some processes: a recogniser holds one stream, and threads would share it."""
    if num_processes <= 1:
        yield map
        return
    pool = ProcessPoolExecutor(num_processes, mp_context=get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def check_folder(folder: Path, what: str) -> None:
    """Raise `DataError` where there is no folder of what is wanted."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of {what}")


def _files(folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    check_folder(folder, what)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise DataError(f"{folder} holds no {what}; expected files ending in {', '.join(suffixes)}")
    return found


def _hash(path: Path, *beside: Path) -> str:
    """Hash of a file and of those beside it that there are."""
    contents = [path.read_bytes(), *(other.read_bytes() for other in beside if other.is_file())]
    return hashlib.sha256(_VERSION + b"".join(contents)).hexdigest()[:20]


def _hash_of_portraits(folder: Path, paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(_PORTRAITS_VERSION)
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()} {_hash(path)}\n".encode())
    return digest.hexdigest()[:20]


def _save(path: Path, **arrays: NDArray) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, (path.suffix,)) as temporary, writing(path), temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load(path: Path, *names: str) -> list[NDArray]:
    try:
        with np.load(path) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); remove it to have it prepared again") from error
