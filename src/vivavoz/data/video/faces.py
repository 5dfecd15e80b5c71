"""Faces in pictures: who finds them, where they are, and which detections are one person.

Landmarks are (478, 3) float32 in pixels of the picture they were found in; boxes as in `vivavoz.media.crop`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivavoz.media.crop import FaceBox
from vivavoz.media.image import Pixels
from vivavoz.rig.head_pose import HeadFit, fit_head

Landmarks: TypeAlias = NDArray[np.float32]

# Against `find_faces` on 107 photographs and video frames: the median ratio of sides, and of what the centres lie apart.
_BOX_PER_FACE_HEIGHT: Final = 1.01
_BOX_BELOW_ORIGIN: Final = 0.10

_SAME_PERSON: Final = 0.5
"""Two detections that are less than so many box sides apart are of one person."""


class FaceReader(Protocol):
    """What finds faces. `MediaPipeFaces` is the real one."""

    def faces(self, image: Pixels) -> list[Landmarks]:
        """All faces of a picture `(H, W, 3)`, in any order."""
        ...

    def follow(self, crops: Sequence[Pixels]) -> list[Landmarks | None]:
        """Landmarks of the one face that successive crops `(512, 512, 3)` show; None where it is not seen."""
        ...

    def hands(self, crop: Pixels) -> list[NDArray[np.float32]]:
        """Points (21, 2) in pixels of every hand that a crop `(512, 512, 3)` shows."""
        ...

    def close(self) -> None:
        """Let go of what the reader holds."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Face:
    """A face in one picture."""

    box: FaceBox
    """As `find_faces` would frame it, so that clips and portraits share one framing."""
    head: HeadFit

    @classmethod
    def of(cls, landmarks: Landmarks) -> Self:
        """The face that landmarks (478, 3) in pixels describe."""
        head = fit_head(landmarks)
        # The box hangs on the head, not on the mouth: an open jaw does not move it.
        x, y = head.origin_px[:2] + _BOX_BELOW_ORIGIN * head.scale_px * head.rotation[:2, 1]
        return cls(box=FaceBox(centre_x=float(x), centre_y=float(y), side=_BOX_PER_FACE_HEIGHT * head.scale_px), head=head)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sighting:
    """All faces of one picture that was looked at."""

    index: int
    faces: tuple[Face, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Track:
    """One person through a shot, in the pictures that were looked at; the others of each picture beside."""

    indices: tuple[int, ...]
    boxes: tuple[FaceBox, ...]
    others: tuple[tuple[FaceBox, ...], ...]


def principal_track(sightings: Sequence[Sighting]) -> Track | None:
    """The person who takes up the most picture over the longest time in one shot; None if nobody is seen.

    Who is lost and found again at the same place is the same person: see `runs`.
    """
    tracks: list[list[tuple[int, FaceBox]]] = []
    for number, sighting in enumerate(sightings):
        free = list(tracks)
        for face in sorted(sighting.faces, key=lambda face: -face.box.side):
            near = [track for track in free if _apart(track[-1][1], face.box) < _SAME_PERSON]
            if near:
                track = min(near, key=lambda track: _apart(track[-1][1], face.box))
                free = [other for other in free if other is not track]
                track.append((number, face.box))
            else:
                tracks.append([(number, face.box)])
    if not tracks:
        return None
    chosen = max(tracks, key=lambda track: sum(box.side**2 for _, box in track))
    return Track(
        indices=tuple(sightings[number].index for number, _ in chosen),
        boxes=tuple(box for _, box in chosen),
        others=tuple(tuple(face.box for face in sightings[number].faces if face.box is not box) for number, box in chosen),
    )


def _apart(a: FaceBox, b: FaceBox) -> float:
    """How far two boxes' centres are apart, in sides of the smaller one; different sizes count as apart too."""
    distance = math.hypot(a.centre_x - b.centre_x, a.centre_y - b.centre_y) / min(a.side, b.side)
    return distance + abs(math.log(a.side / b.side))


def runs(track: Track, max_gap: int) -> Iterator[Track]:
    """The track's unbroken parts: no two pictures that were looked at lie more than `max_gap` apart."""
    start = 0
    for end in range(1, len(track.indices) + 1):
        if end == len(track.indices) or track.indices[end] - track.indices[end - 1] > max_gap:
            part = slice(start, end)
            yield Track(indices=track.indices[part], boxes=track.boxes[part], others=track.others[part])
            start = end
