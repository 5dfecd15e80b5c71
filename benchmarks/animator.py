"""How fast the portrait animator is, whether its pictures show what it says, and whether its lips move as a real speaker's: JSON.

    python benchmarks/animator.py --portraits DIR --speech DIR --cache DIR [--grid DIR] [--frames 2000]
        [--espeak en-us,de,fr-fr] [-o report.json]

- speed: pictures per second of one core, with and without flow and mask.
- seen: landmarks found again (MediaPipe) in pictures of 256 pixels, against the animator's own; lips that close on p, b and m.
- grid: videos of the GRID corpus with their `.align` files; the lips that the same sound drives, against the speaker's. Words are
  aligned (and, with --recognise, recognised as well); loudness alone is measured beside.
- synthesised: the animator's own lips while espeak-ng speaks 20 sentences a language: how many p, b and m find them closed
  in a picture of the very sound, and how far they open for open vowels.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np

from vivavoz.audio.espeak import VARIANTS, Voice
from vivavoz.audio.reading import read_audio
from vivavoz.data.corpus import Portraits, Reader, prepare_portraits, prepare_speech
from vivavoz.data.espeak import speak
from vivavoz.data.performance import perform
from vivavoz.data.phonemes import Phoneme, align, recognise
from vivavoz.data.prosody import band_loudness, num_frames_of
from vivavoz.data.talkers import talkers
from vivavoz.data.visemes import CLOSURES, LIPS, LOUDNESS_RATE_HZ, lip_motion
from vivavoz.errors import DataError
from vivavoz.evaluate.faces import FindLandmarks
from vivavoz.evaluate.metrics import pearson
from vivavoz.evaluate.mouth import (
    CLOSED_SHARE,
    closure_hits,
    lip_opening,
    loudness_mouth,
    measure_openings,
)
from vivavoz.media.video import read_video
from vivavoz.rig.labels import in_units
from vivavoz.rig.landmarks import face_mesh
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ

Figures = dict[str, Any]
_LAGS = (-1, 0, 1)
_CLIP_FRAMES = 100


def main() -> None:
    options = parse()
    cv2.setNumThreads(1)
    people = prepare_portraits(options.portraits, options.cache)
    readers = prepare_speech(options.speech, options.cache)
    figures: Figures = {"speed_fps": speed(people, readers[0])}
    with face_mesh() as find:
        if options.frames:
            figures["seen"] = seen(people, readers, options.frames, find)
        if options.grid is not None:
            figures["grid"] = grid(sorted(options.grid.glob("*.mp4"))[: options.clips], find, recognise_too=options.recognise)
    if options.espeak:
        figures["synthesised"] = {language: synthesised(people, language) for language in options.espeak.split(",")}
    text = json.dumps(figures, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")


def speed(people: Portraits, reader: Reader, num_frames: int = 50) -> Figures:
    """Pictures per second of the processor's time."""
    rig = people.rig(0)
    motion = perform(reader.samples, seed=0, phonemes=reader.phonemes).motion[:num_frames]
    rates: Figures = {}
    for size, flow_size in itertools.product((256, 512), (None, 0)):
        rig.render(motion[0], size, flow_size)
        start_s = time.process_time()
        for row in motion:
            rig.render(row, size, flow_size)
        rates[f"{size}{'' if flow_size is None else ' pictures only'}"] = len(motion) / (time.process_time() - start_s)
    return rates


def seen(people: Portraits, readers: list[Reader], num_frames: int, find: FindLandmarks) -> Figures:
    """Landmarks found again in animated pictures."""
    errors, rs, hits, count, lost = [], [], 0, 0, 0
    num_clips = max(1, num_frames // _CLIP_FRAMES)
    for number in range(num_clips):
        who = number * len(people.names) // num_clips
        reader = readers[number * len(readers) // num_clips]
        rig = people.rig(who)
        motion = perform(reader.samples, seed=number, phonemes=reader.phonemes).motion[:_CLIP_FRAMES]
        found, own = [], in_units(rig.labels(motion), "opening")
        for row in motion:
            frame = rig.render(row, 256, 0)
            points = find(frame.image)
            lost += points is None
            found.append(lip_opening(points) if points is not None else np.nan)
            if points is not None:
                height = np.linalg.norm(frame.landmarks[152] - frame.landmarks[10])
                errors.append(float(np.median(np.linalg.norm(points[:468, :2] - frame.landmarks[:468], axis=1)) / height))
        track = np.array(found, np.float32)
        known = ~np.isnan(track)
        rs.append(pearson(track[known], own[known]))
        clip_hits, clip_count = closure_hits(np.nan_to_num(track, nan=1.0), inside(reader.phonemes, len(motion)))
        hits, count = hits + clip_hits, count + clip_count
        tell(f"seen: {number + 1}/{num_clips} clips, r {rs[-1]:.3f}, error {100 * median(errors):.2f} %")
    return {
        "frames": num_clips * _CLIP_FRAMES,
        "frames_without_face": lost,
        "median_error_percent_of_face_height": 100 * median(errors),
        "opening_r": fmean(rs),
        "opening_r_lowest": min(rs),
        "closures": count,
        "closed_percent": 100 * hits / max(count, 1),
    }


def synthesised(people: Portraits, language: str, num_sentences: int = 20) -> Figures:
    """Lips that close, of one portrait that speaks sentences in one voice after the other."""
    rig = people.rig(0)
    ((_, sentences),) = talkers([language]).sentences
    closed, open_wide, seconds = [], [], 0.0
    for number, sentence in enumerate(sentences[:num_sentences]):
        (said,), _ = speak([sentence], Voice(language=language, variant=VARIANTS[number % len(VARIANTS)]))
        openings = in_units(rig.labels(perform(said.samples, seed=number, phonemes=said.phonemes).motion), "opening")
        openings = openings / np.percentile(openings, 95)
        seconds += len(said.samples) / SAMPLE_RATE_HZ
        for sound in said.phonemes:
            pictures = openings[int(sound.start_s * FRAME_RATE) : int(np.ceil(sound.end_s * FRAME_RATE))]
            if sound.symbol in CLOSURES:
                closed.append(float(pictures.min()))
            elif sound.symbol in ("AA", "AE", "AY", "AW"):
                open_wide.append(float(pictures.max()))
    return {
        "sentences": min(num_sentences, len(sentences)),
        "seconds": seconds,
        "closures": len(closed),
        "closed_percent": 100 * float(np.mean(np.array(closed) < CLOSED_SHARE)),
        "closure_opening_median": median(closed),
        "closure_opening_widest": max(closed),
        "open_vowels": len(open_wide),
        "open_vowel_opening_median": median(open_wide),
    }


def inside(phonemes: tuple[Phoneme, ...], num_frames: int) -> list[Phoneme]:
    """Those that end before the clip does."""
    return [phoneme for phoneme in phonemes if phoneme.end_s * 25 + 1 < num_frames]


def grid(paths: list[Path], find: FindLandmarks, *, recognise_too: bool) -> Figures:
    """Agreement with a real speaker's lips, means over clips."""
    rs: dict[str, list[float]] = {}
    skipped = 0
    for number, path in enumerate(paths):
        try:
            truth = measure_openings((image for _, image in read_video(path).frames()), find)
            samples = read_audio(path)
            tracks = {"aligned": lips(samples, align(samples, words(path)), len(truth))}
        except DataError as error:
            skipped += 1
            tell(f"grid: left out {path.name}: {error}")
            continue
        if recognise_too:
            tracks["recognised"] = lips(samples, recognise(samples), len(truth))
        tracks["loudness"] = loudness_mouth(samples, len(truth))
        for (name, track), lag in itertools.product(tracks.items(), _LAGS):
            early, late = track[max(-lag, 0) : len(track) - max(lag, 0)], truth[max(lag, 0) : len(truth) + min(lag, 0)]
            rs.setdefault(f"{name} r at lag {lag:+d}", []).append(pearson(early, late))
        if number % 20 == 19:
            tell(f"grid: {number + 1}/{len(paths)} clips, r {fmean(rs['aligned r at lag +0']):.3f}")
    return {"clips": len(paths) - skipped, "left_out": skipped} | {name: fmean(values) for name, values in rs.items()}


def lips(samples: np.ndarray, phonemes: list[Phoneme], num_frames: int) -> np.ndarray:
    """Opening of the lips that the animator gives a sound."""
    loudness = band_loudness(samples, num_frames_of(len(samples), LOUDNESS_RATE_HZ), rate_hz=LOUDNESS_RATE_HZ)
    motion = lip_motion(phonemes, num_frames, loudness=loudness)
    return motion[:, LIPS.index("jaw")] * (1 - motion[:, LIPS.index("press")])


def words(path: Path) -> list[str]:
    """Words of a GRID clip; the letter is British."""
    rows: Iterator[list[str]] = (line.split() for line in path.with_suffix(".align").read_text().splitlines())
    return ["zed" if word == "z" else word for _, _, word in rows if word not in ("sil", "sp")]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", required=True, type=Path)
    parser.add_argument("--speech", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--clips", type=int, default=300, help="of GRID, at most")
    parser.add_argument("--frames", type=int, default=2000, help="animated pictures in which landmarks are found again")
    parser.add_argument("--recognise", action="store_true", help="drive GRID's lips by recognised sounds as well")
    parser.add_argument("--espeak", metavar="LANG[,LANG...]", help="languages that espeak-ng speaks")
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
