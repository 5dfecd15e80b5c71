"""Videos of somebody who speaks, and eyes and ears that need no models.

The photograph's mouth is painted green and as high as the sound is loud: `MarkedFaces` finds faces by that.
"""

from contextlib import contextmanager
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
import skimage.data

from vivavoz.data.phonemes import Phoneme
from vivavoz.data.video.clips import Senses
from vivavoz.media.video import VideoWriter
from vivavoz.rig.landmarks import canonical_points
from vivavoz.timing import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

FACE_HEIGHT_PX = 118
"""Of the photograph's face, in its 512 pixels."""
MOUTH = (226, 148)
_MOUTH_WIDTH_PX = 0.32 * FACE_HEIGHT_PX
_SHUT_PX = 5


def speech(seconds, seed=0):
    """Sound (N,) of something like syllables, and how loud it is in every picture, (T,) in [0, 1]."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * FRAME_RATE) * SAMPLES_PER_FRAME
    loudness = np.zeros(num_samples)
    at = 0.2
    while at < seconds - 0.3:
        length = rng.uniform(0.12, 0.3)
        span = slice(round(at * SAMPLE_RATE_HZ), round((at + length) * SAMPLE_RATE_HZ))
        loudness[span] = np.hanning(len(loudness[span])) * rng.uniform(0.5, 1)
        at += length + rng.choice([0.03, 0.1, 0.35])
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    voice = sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 12)) + 0.3 * rng.normal(size=num_samples)
    per_picture = loudness.reshape(-1, SAMPLES_PER_FRAME).mean(1)
    return (0.15 * loudness * voice).astype(np.float32), per_picture


def talking(loudness, size=(400, 320), shift_px=(0, 0), zoom=1.0):
    """Pictures (H, W, 3) of the astronaut, whose mouth opens as `loudness` (T,) says and whose head sways a little.

    `size` is width and height; `shift_px` moves the person, `zoom` enlarges.
    """
    width, height = size
    photograph = skimage.data.astronaut()
    for index, loud in enumerate(loudness):
        x, y = (zoom * value for value in MOUTH)
        sway = 3 * np.sin(index / 9)
        move = np.array([[zoom, 0, shift_px[0] + sway], [0, zoom, shift_px[1]]])
        picture = cv2.warpAffine(photograph, move, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        centre = (x + shift_px[0] + sway, y + shift_px[1])
        axes = (zoom * _MOUTH_WIDTH_PX / 2, zoom * (_SHUT_PX + 20 * loud) / 2)
        # Sixteenths of a pixel, for the opening must not move in steps.
        fixed = [tuple(round(value * 16) for value in pair) for pair in (centre, axes)]
        outline = cv2.ellipse2Poly((0, 0), (1000, 1000), 0, 0, 360, 5) / 1000 * fixed[1] + fixed[0]
        cv2.fillPoly(picture, [np.round(outline).astype(np.int32)], (0, 255, 0), cv2.LINE_AA, 4)
        yield picture


def write_talking(path, seconds=3.0, seed=0, late_s=0.0, sound=True, loudness=None, **look):
    """A video file of speech, whose sound may be late by `late_s`."""
    samples, loud = speech(seconds, seed)
    shift = round(late_s * SAMPLE_RATE_HZ)
    samples = np.roll(samples, shift)
    pictures = talking(loud if loudness is None else loudness, **look)
    write_video(path, pictures, samples if sound else None)
    return samples


def write_video(path, pictures, samples=None):
    pictures = list(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, (width, height), audio_rate_hz=None if samples is None else SAMPLE_RATE_HZ) as writer:
        for picture in pictures:
            writer.write_frame(picture)
        if samples is not None:
            writer.write_samples(samples)


def write_odd_video(path, pictures, samples, times=None, rate=25, pix_fmt="yuv420p", rotation=0, start_s=0):
    """A file as cameras make them: any rate, frames at any `times` (in 1/1000 s), 10 bits, rotated, not starting at 0."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "ultrafast", "bf": "0"})
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        pictures = [np.ascontiguousarray(np.rot90(picture, rotation // 90)) for picture in pictures]
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.time_base = Fraction(1, 1000)
            frame.pts = (times[index] if times is not None else round(1000 * index / rate)) + round(1000 * start_s)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
            frame.pts = first + round(SAMPLE_RATE_HZ * start_s)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@cache
def _mouth_of_mean_face():
    points = canonical_points()
    return (points[61] + points[291]) / 2, float(points[291, 0] - points[61, 0])


def marked_face(x, y, width, height, share_shut=_SHUT_PX / _MOUTH_WIDTH_PX):
    """Landmarks of a frontal face whose mouth has this centre, width and height in pixels."""
    middle, mouth_width = _mouth_of_mean_face()
    scale = width / mouth_width
    points = (canonical_points() - middle) * scale + np.array([x, y, 0])
    opening = max(height - share_shut * width, 0)
    points[13, 1], points[14, 1] = y - opening / 2, y + opening / 2
    points[[0, 17], 1] += [-opening / 4, opening / 2]
    return points.astype(np.float32)


class MarkedFaces:
    """Finds the painted mouths; a blue patch is a hand."""

    def faces(self, image):
        found = self._blobs(image, 1)
        return [marked_face(*centre, width, height) for centre, width, height in found]

    def follow(self, crops):
        seen = [self.faces(crop) for crop in crops]
        return [max(faces, key=lambda points: np.ptp(points[:, 0])) if faces else None for faces in seen]

    def hands(self, crop):
        return [np.array([centre], np.float32) for centre, _, _ in self._blobs(crop, 2)]

    def close(self):
        pass

    @staticmethod
    def _blobs(image, channel):
        first, second = (np.ascontiguousarray(image[..., other]) for other in range(3) if other != channel)
        excess = cv2.subtract(np.ascontiguousarray(image[..., channel]), cv2.max(first, second))
        count, _labels, boxes, _ = cv2.connectedComponentsWithStats((excess > 100).astype(np.uint8))
        blobs = []
        for number in range(1, count):
            left, top, width, height, area = boxes[number]
            if area > 20:
                # Areas are finer than the edges of a box: an ellipse of this width has this height.
                part = excess[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2]
                blobs.append(
                    (
                        (left + width / 2, top + height / 2),
                        float(width),
                        float(np.minimum(part / 200, 1).sum()) / (np.pi / 4 * width),
                    )
                )
        return blobs


def loud_is_voice(samples, num_frames):
    frames = np.pad(samples, (0, max(0, num_frames * SAMPLES_PER_FRAME - len(samples))))[: num_frames * SAMPLES_PER_FRAME]
    return (np.abs(frames).reshape(num_frames, -1).max(1) > 0.02).astype(np.float32)


def one_long_vowel(samples, words):
    symbol = "AA" if words else "OW"
    return [Phoneme(symbol=symbol, start_s=0.0, end_s=len(samples) / SAMPLE_RATE_HZ)]


@contextmanager
def simple_senses():
    yield Senses(faces=MarkedFaces(), voice=loud_is_voice, phonemes=one_long_vowel)
