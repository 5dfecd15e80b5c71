"""Learn the map from sound to lips by which offsets are estimated, and measure the estimate, on a corpus of aligned clips.

    python benchmarks/audio_video_offset.py CORPUS [--write]

Every second clip is used to learn and the others to measure, and the other way round; their sound is moved by random offsets.
Prints JSON. With --write, the map learnt from all clips replaces the one in the package.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import vivavoz.data.video
from vivavoz.data.shards.codec import decode_arrays, decode_sound
from vivavoz.data.shards.manifest import Manifest
from vivavoz.data.shards.storage import join, read_bytes
from vivavoz.data.video import sync

RIDGE = 3000.0


def clips_of(corpus):
    """Shape of the lips (T, 3) and sound (640 T,) of every clip."""
    for shard in Manifest.load(corpus).shards:
        for clip in shard.clips:
            spans = {name: (start, start + length) for name, (start, length) in clip.members.items()}
            arrays, sound = (read_bytes(join(corpus, shard.name), *spans[name]) for name in ("npz", "flac"))
            yield decode_arrays(arrays, clip.info.key)["lip_shape"], decode_sound(sound, clip.info.key)


def learn(clips):
    """Weights (50, 3) by ridge regression; every figure of the lips counts in its own deviations."""
    features = np.concatenate([sync.sound_features(samples) for _, samples in clips])
    lips = np.concatenate([sync.lip_track(shape) for shape, _ in clips])
    covariance = features.T @ features + RIDGE * np.eye(features.shape[1])
    return np.linalg.solve(covariance, features.T @ (lips / lips.std(0)))


def measure(clips, weights, rng):
    """What is found minus what the sound was moved by, in seconds, and the confidences."""
    sync._weights = lambda: weights
    errors, confidences = [], []
    for shape, samples in clips:
        late_s = rng.uniform(-0.25, 0.25)
        found = sync.estimate_offset(shape, np.roll(samples, round(late_s * 16_000)))
        errors.append(found.offset_s - late_s)
        confidences.append(found.confidence)
    return errors, confidences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    clips = list(clips_of(options.corpus))
    rng = np.random.default_rng(0)
    results = [measure(clips[1 - half :: 2], learn(clips[half::2]), rng) for half in (0, 1)]
    errors, confidences = (np.concatenate(parts) for parts in zip(*results, strict=True))
    report = {"clips": len(clips), "median_s": np.median(errors), "median_absolute_s": np.median(np.abs(errors))}
    report |= {f"beyond_{limit}_s": np.mean(np.abs(errors) > limit) for limit in (0.02, 0.04, 0.08)}
    report |= {f"confidence_p{q}": np.percentile(confidences, q) for q in (5, 50)}
    print(json.dumps({name: round(float(value), 4) for name, value in report.items()}, indent=2))
    if options.write:
        np.save(Path(vivavoz.data.video.__file__).with_name("sound_to_lips.npy"), learn(clips).astype(np.float32))


if __name__ == "__main__":
    main()
