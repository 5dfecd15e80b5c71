"""A portrait that moves: warped by a mesh, with the mouth's inside painted, from rows of motion parameters.

All per-portrait work happens once in `Rig.from_image`. Legend: `F` frames, `V` mesh vertices, `N` triangles, `S` output
size in pixels. Portrait coordinates are continuous pixels of the 512 x 512 portrait (the first pixel's centre is 0.5).
"""

import dataclasses
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vivavoz.errors import DataError
from vivavoz.rig import landmarks as lm
from vivavoz.rig.expression import FULL_OPENING, displace, inner_gaps
from vivavoz.rig.glasses import MIN_CONTRAST, frame_contrast, give_with_glasses
from vivavoz.rig.head_pose import HeadFit, fit_head, rotation
from vivavoz.rig.labels import measure_labels
from vivavoz.rig.layers import Layers
from vivavoz.rig.matte import Matte
from vivavoz.rig.mesh import NUM_RING_POINTS
from vivavoz.rig.motion import COLUMN, MOTION
from vivavoz.rig.mouth import Mouth, measure_mouth
from vivavoz.rig.openings import draw_eyeball, draw_mouth
from vivavoz.rig.smoothstep import smoothstep
from vivavoz.rig.warp import PORTRAIT_SIZE_PX, backward_flow, pixel_centres, portrait_mesh, sample, warp_mesh

_SMALL_SIZE_PX: Final = 256
HEAD_RISE: Final = 0.25
"""How much of the shoulders' rise with the breath lifts the head."""
_RING_FOLLOW: Final = (1.0, 1.0, 1.0, 1.0, 0.85, 0.0)
"""How much each ring turns with the head: hair does all the way."""
_LONE_RING_FOLLOW: Final = (1.0, 0.97, 0.78, 0.38, 0.06, 0.0)
"""The same where the rings carry the background as well."""

Floats: TypeAlias = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One picture with everything that is known about how it came about."""

    image: NDArray[np.uint8]
    """(S, S, 3) RGB."""
    flow: Floats
    """(flow_size, flow_size, 2): source_xy = identity_xy + flow, in [-1, 1] units with pixel centres at (2 i + 1) / size - 1."""
    mask: Floats
    """(flow_size, flow_size) in [0, 1]: 1 where the portrait cannot supply the pixel."""
    uv: Floats
    """(uv_size, uv_size, 3): place on the mean face (x and y scaled to about [-1, 1], 0 elsewhere), then 1 on the face."""
    landmarks: Floats
    """(478, 2) in pixels of the S x S picture."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """One animatable portrait; immutable, safe to share between threads."""

    image: NDArray[np.uint8]
    """(512, 512, 3) RGB."""
    soft_image: NDArray[np.uint8]
    """The same without the detail that a picture of 256 pixels cannot hold."""
    landmarks_px: Floats
    """(478, 3) portrait coordinates."""
    head: HeadFit
    """Pose, place and size of the head in the portrait."""
    neutral: NDArray[np.float64]
    """Landmarks (478, 3) in the head's frame, face height 1."""
    vertices: NDArray[np.float64]
    """Mesh at rest, (V, 3), portrait coordinates."""
    sampled: NDArray[np.float64]
    """Where in the portrait each vertex takes its skin from, (V, 2): `vertices`, but a little off eyes and teeth."""
    follow: NDArray[np.float64]
    """(V, 2): how much each vertex turns with the head and rises with the breath."""
    give: NDArray[np.float64]
    """(V,): how far each vertex follows an expression; less than 1 around glasses, which do not bend."""
    mouth: Mouth
    layers: Layers | None
    """What parts the person from the background; None where nothing does, and both go with the mesh."""

    @classmethod
    def from_image(cls, image: NDArray[np.uint8], landmarks: Floats | None = None, matte: Matte | None = None) -> "Rig":
        """Rig a portrait crop, (512, 512, 3) uint8 RGB.

        Args:
            image: the portrait.
            landmarks: (478, 3) in pixels; found if not given.
            matte: (512, 512) uint8, 255 on the person, see `matte.person_matte`. Without it the background close to the head
                goes along with it.

        Raises:
            DataError: the image, the landmarks or the matte have another shape, or no face can be found.
        """
        if image.shape != (PORTRAIT_SIZE_PX, PORTRAIT_SIZE_PX, 3) or image.dtype != np.uint8:
            raise DataError(
                f"portrait of shape {image.shape} and type {image.dtype}; expected (512, 512, 3) uint8, crop it first"
            )
        points = lm.detect_landmarks(image) if landmarks is None else landmarks
        if points.shape != (lm.NUM_LANDMARKS, 3):
            raise DataError(f"landmarks of shape {points.shape}; expected (478, 3), detect them with detect_landmarks")
        if matte is not None and (matte.shape != image.shape[:2] or matte.dtype != np.uint8):
            raise DataError(f"matte of shape {matte.shape} and type {matte.dtype}; expected (512, 512) uint8, see person_matte")
        layers = None if matte is None else Layers.of(image, matte)
        head = fit_head(points)
        neutral = head.to_head(points)
        vertices = portrait_mesh(points)
        return cls(
            image=image,
            soft_image=_prefiltered(image, _SMALL_SIZE_PX),
            landmarks_px=points.astype(np.float32),
            head=head,
            neutral=neutral,
            vertices=vertices,
            sampled=_off_the_openings(vertices[:, :2], float(inner_gaps(neutral)[5])),
            follow=_follow_weights(vertices, head, _LONE_RING_FOLLOW if layers is None else _RING_FOLLOW),
            give=give_with_glasses() if frame_contrast(image, points) > MIN_CONTRAST else np.ones(len(vertices)),
            mouth=measure_mouth(image, points, neutral),
            layers=layers,
        )

    def rest(self) -> Floats:
        """The row of motion, (len(MOTION),), that shows the portrait as it is: all zeros but for parted lips."""
        row = np.zeros(len(MOTION), np.float32)
        row[COLUMN["jaw"]] = inner_gaps(self.neutral)[5] / FULL_OPENING
        return row

    def labels(self, motion: Floats) -> Floats:
        """Absolute, normalised labels (F, len(LABELS)) of rows of motion (F, len(MOTION)); see `rig_labels`."""
        moved = self._moved_landmarks(np.atleast_2d(motion))
        return measure_labels(self.neutral, moved, np.atleast_2d(motion), self.head, self._place(np.atleast_2d(motion)))

    def landmarks(self, motion_row: Floats, size: int = PORTRAIT_SIZE_PX) -> Floats:
        """Landmarks (478, 3) of a frame in pixels of its `size` x `size` picture, z in the unit of x."""
        vertices, irises = self._deform(motion_row)
        return (np.concatenate([vertices[: lm.NUM_SKIN_LANDMARKS], irises]) * (size / PORTRAIT_SIZE_PX)).astype(np.float32)

    def expressions(self, motion: Floats) -> NDArray[np.float64]:
        """Landmarks with their expression (F, 478, 3) in the head's frame, face height 1, of rows of motion (F, len(MOTION))."""
        return self._moved_landmarks(np.atleast_2d(motion))

    def render(self, motion_row: Floats | None, size: int = 256, flow_size: int | None = None, uv_size: int = 0) -> RenderedFrame:
        """Render one frame.

        Args:
            motion_row: (len(MOTION),), see `motion.MOTION`; None shows the portrait itself.
            size: side of the picture in pixels.
            flow_size: side of flow and mask; half of `size` unless given. 0 leaves them out, which is quicker.
            uv_size: side of uv; 0 leaves it out.

        Raises:
            DataError: the row has another number of columns.
        """
        if motion_row is not None and motion_row.shape != (len(MOTION),):
            raise DataError(f"motion row of shape {motion_row.shape}; expected ({len(MOTION)},), take one row of Motion.values")
        row = self.rest() if motion_row is None else motion_row
        flow_size = size // 2 if flow_size is None else flow_size
        vertices, irises = self._deform(row)
        warp = warp_mesh(vertices, self.sampled, size, self.head.scale_px, uv_size)
        portrait = self.image if size > _SMALL_SIZE_PX else self.soft_image
        source = pixel_centres(size) if motion_row is None else warp.source
        mask = np.zeros((size, size), np.float32)
        if motion_row is None or self.layers is None:
            picture = sample(portrait, source, sharp=size > _SMALL_SIZE_PX)
        else:
            behind = _before_camera(self._camera(row), size)
            picture = self.layers.draw(portrait, source, behind, mask, sharp=size > _SMALL_SIZE_PX)
        if motion_row is not None:
            # Past its borders the portrait is continued by its mirror image.
            mask[cv2.inRange(source, (0.0, 0.0), (PORTRAIT_SIZE_PX,) * 2) == 0] = 1
            self._draw_eyes(picture, source, portrait, vertices, row)
            self._draw_mouth(picture, source, mask, portrait, vertices, row)
        picture *= np.exp(row[COLUMN["light"]])
        points = np.concatenate([vertices[: lm.NUM_SKIN_LANDMARKS, :2], irises[:, :2]]) * (size / PORTRAIT_SIZE_PX)
        fields = (flow_size, flow_size)
        return RenderedFrame(
            image=np.clip(picture + 0.5, 0, 255).astype(np.uint8),
            flow=backward_flow(source, flow_size),
            mask=np.asarray(cv2.resize(mask, fields, interpolation=cv2.INTER_AREA), np.float32) if flow_size else mask[:0, :0],
            uv=warp.uv,
            landmarks=points.astype(np.float32),
        )

    def flow_between(self, motion_row: Floats, other_row: Floats, size: int, flow_size: int) -> Floats:
        """Backward flow (flow_size, flow_size, 2) from one frame to another of the same portrait, in [-1, 1] units.

        Exact on the person and on the background; it does not know what the other frame hides. Inside the mouth and between the
        lids it is what the mesh says, which does not know teeth.
        """
        vertices, others = self._deform(motion_row)[0], self._deform(other_row)[0]
        warp = warp_mesh(vertices, others[:, :2], size, self.head.scale_px)
        flow = backward_flow(warp.source, flow_size)
        if self.layers is not None:
            shown = self.layers.in_background(warp_mesh(vertices, self.sampled, flow_size, self.head.scale_px).source)
            zoom, offset = self._camera(other_row)
            behind = _before_camera(self._camera(motion_row), flow_size) * np.float32(zoom) + offset.astype(np.float32)
            np.copyto(flow, backward_flow(behind, flow_size), where=shown[..., None])
        return flow

    def _draw_eyes(
        self, picture: Floats, source: Floats, portrait: NDArray[np.uint8], vertices: NDArray[np.float64], row: Floats
    ) -> None:
        scale = len(picture) / PORTRAIT_SIZE_PX
        for upper, lower, ends, iris, eye in (
            (lm.UPPER_LID_LEFT, lm.LOWER_LID_LEFT, lm.EYE_CORNERS_LEFT, lm.IRIS_LEFT, lm.EYE_LEFT),
            (lm.UPPER_LID_RIGHT, lm.LOWER_LID_RIGHT, lm.EYE_CORNERS_RIGHT, lm.IRIS_RIGHT, lm.EYE_RIGHT),
        ):
            lids = tuple(vertices[[ends[0], *lid, ends[1]], :2] * scale for lid in (upper, lower))
            shift = self.head.rotation[:2, :2] @ self._gaze_shift(row[None], eye)[0] * self.head.scale_px
            rigid = self._rigid_at(row, float(self.landmarks_px[list(eye), 2].mean()))
            draw_eyeball(picture, source, portrait, (lids[0], lids[1]), rigid, self.landmarks_px[list(iris), :2], shift)

    def _draw_mouth(
        self,
        picture: Floats,
        source: Floats,
        mask: Floats,
        portrait: NDArray[np.uint8],
        vertices: NDArray[np.float64],
        row: Floats,
    ) -> None:
        scale = len(picture) / PORTRAIT_SIZE_PX
        lips = tuple(vertices[list(lip), :2] * scale for lip in (lm.UPPER_INNER_LIP, lm.LOWER_INNER_LIP))
        # Teeth lie a little behind the lips.
        rigid = self._rigid_at(row, float(self.landmarks_px[[13, 14], 2].mean()) + 0.03 * self.head.scale_px)
        to_head = np.asarray(np.linalg.inv(self.head.rotation[:2, :2]) / self.head.scale_px, np.float64)
        origin = self.landmarks_px[[13, 78, 308], :2].astype(np.float64)
        centre = np.array([(origin[1, 0] + origin[2, 0]) / 2, origin[0, 1]])
        rest = float(inner_gaps(self.neutral)[5])
        draw_mouth(
            picture,
            source,
            mask,
            portrait,
            (lips[0], lips[1]),
            self.mouth,
            rigid,
            (to_head, -to_head @ centre),
            jaw_drop=0.93 * FULL_OPENING * float(row[COLUMN["jaw"]]) + 0.45 * rest,
            tongue=float(row[COLUMN["tongue"]]),
            face_px=self.head.scale_px * scale,
        )

    def _expression(self, motion: Floats) -> NDArray[np.float64]:
        """How far an expression moves the mesh, (F, V, 3), in the head's frame."""
        return displace(self.neutral, motion) * self.give[:, None]

    def _moved_landmarks(self, motion: Floats) -> NDArray[np.float64]:
        """Landmarks in the head's frame with their expression, (F, 478, 3)."""
        moved = np.repeat(self.neutral[None], len(motion), 0)
        moved[:, : lm.NUM_SKIN_LANDMARKS] += self._expression(motion)[:, : lm.NUM_SKIN_LANDMARKS]
        for iris, eye in ((lm.IRIS_LEFT, lm.EYE_LEFT), (lm.IRIS_RIGHT, lm.EYE_RIGHT)):
            moved[:, list(iris), :2] += self._gaze_shift(motion, eye)[:, None]
        return moved

    def _gaze_shift(self, motion: Floats, eye: tuple[int, ...]) -> NDArray[np.float64]:
        """Displacement of an iris in face heights, (F, 2)."""
        width = float(np.ptp(self.neutral[list(eye), 0]))
        gaze = motion[:, [COLUMN["gaze_x"], COLUMN["gaze_y"]]].astype(np.float64)
        return gaze * np.array([0.20, -0.13]) * width

    def _place(self, motion: Floats) -> NDArray[np.float64]:
        """Centre of the face, (F, 2), in fractions of the crop."""
        centres = []
        middle = self.landmarks_px[[lm.FOREHEAD_TOP, lm.CHIN_TIP]].mean(0)
        for row in motion:
            matrix, constant = self._rigid_at(row, float(middle[2]))
            centres.append((matrix @ middle[:2] + constant) / PORTRAIT_SIZE_PX)
        return np.reshape(centres, (len(motion), 2))

    def _deform(self, row: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vertices (V, 3) and irises (10, 3) of a frame, portrait coordinates."""
        motion = row[None]
        scale = self.head.scale_px
        at_rest = self.vertices + self._expression(motion)[0] @ self.head.rotation.T * scale
        yaw, pitch, roll = (float(row[COLUMN[name]]) for name in ("yaw", "pitch", "roll"))
        turned = (at_rest - self.head.pivot_px) @ rotation(yaw, pitch, roll).T + self.head.pivot_px
        turn, rise = (self.follow[:, k : k + 1] for k in range(2))
        moved = at_rest + turn * (turned - at_rest)
        moved[:, 1:2] -= rise * row[COLUMN["breath"]] * scale
        zoom, offset = self._camera(row)
        moved *= zoom
        moved[:, :2] += offset
        matrix, constant = self._rigid_at(row, float(self.landmarks_px[[33, 263], 2].mean()))
        shifts = np.concatenate([np.repeat(self._gaze_shift(motion, eye), 5, 0) for eye in (lm.EYE_LEFT, lm.EYE_RIGHT)])
        irises = self.landmarks_px[lm.NUM_SKIN_LANDMARKS :, :2] + shifts @ self.head.rotation[:2, :2].T * scale
        depths = moved[[i for eye in (lm.EYE_CORNERS_LEFT, lm.EYE_CORNERS_RIGHT) for i in eye], 2].reshape(2, 2).mean(1)
        return moved, np.concatenate([irises @ matrix.T + constant, np.repeat(depths, 5)[:, None]], 1)

    def _rigid_at(self, row: Floats, depth_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Affine map (2, 2), (2,) of points fixed to the skull at one depth, from the portrait to the frame."""
        turn = rotation(*(float(row[COLUMN[name]]) for name in ("yaw", "pitch", "roll")))
        pivot, matrix = self.head.pivot_px, turn[:2, :2]
        constant = turn[:2, 2] * (depth_px - pivot[2]) + pivot[:2] - matrix @ pivot[:2]
        constant[1] -= HEAD_RISE * row[COLUMN["breath"]] * self.head.scale_px
        zoom, offset = self._camera(row)
        return matrix * zoom, constant * zoom + offset

    def _camera(self, row: Floats) -> tuple[float, NDArray[np.float64]]:
        """Zoom and offset (2,) of the whole picture, from the portrait to the frame."""
        zoom = float(np.exp(row[COLUMN["scale"]]))
        shift = np.array([row[COLUMN["shift_x"]], row[COLUMN["shift_y"]]], np.float64)
        return zoom, shift * self.head.scale_px + (1 - zoom) * PORTRAIT_SIZE_PX / 2


def _before_camera(camera: tuple[float, NDArray[np.float64]], size: int) -> Floats:
    """Portrait coordinates (size, size, 2) of what stands still before the camera."""
    zoom, offset = camera
    centres = pixel_centres(size)[0, :, 0]
    result = np.empty((size, size, 2), np.float32)
    result[..., 0] = (centres - offset[0]) / zoom
    result[..., 1] = ((centres - offset[1]) / zoom)[:, None]
    return result


def _follow_weights(vertices: NDArray[np.float64], head: HeadFit, ring_follow: tuple[float, ...]) -> NDArray[np.float64]:
    """How much each vertex turns with the head and rises with the breath, (V, 2)."""
    turn = np.ones(len(vertices))
    turn[lm.NUM_SKIN_LANDMARKS :] = np.repeat(ring_follow, NUM_RING_POINTS)
    place = head.to_head(vertices)
    chin = float(place[lm.CHIN_TIP, 1])
    ring = np.arange(len(vertices)) >= lm.NUM_SKIN_LANDMARKS
    # Shoulders lie wide of the neck and higher than its end; they stay.
    wide = smoothstep(0.35, 0.85, np.abs(place[:, 0]))
    below = smoothstep(0.0, 0.5, place[:, 1] - (chin - 0.05 - 0.25 * wide))
    turn[ring] *= 1 - (0.88 + 0.12 * wide[ring]) * below[ring]
    margin = np.minimum(vertices[:, :2], PORTRAIT_SIZE_PX - vertices[:, :2]).min(1) / PORTRAIT_SIZE_PX
    turn[ring] *= smoothstep(-0.05, 0.06, margin[ring])
    rise = np.where(
        ring,
        (HEAD_RISE + (1 - HEAD_RISE) * smoothstep(chin - 0.1, chin + 0.3, place[:, 1])) * smoothstep(-0.1, 0.1, margin),
        HEAD_RISE,
    )
    return np.stack([turn, rise], 1)


def _off_the_openings(places: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Take the edges of lids and parted lips (gap in face heights) from a little inside the skin: found edges hold some tooth."""
    result = places.copy()
    parted = float(smoothstep(0.004, 0.016, np.array(gap)))
    for rings in (lm.UPPER_LIP_RINGS, lm.LOWER_LIP_RINGS):
        for share, ring, outer in ((0.55, rings[0], rings[1]), (0.25, rings[1], rings[2])):
            inner_index, outer_index = list(ring[1:-1]), list(outer[1:-1])
            result[inner_index] += parted * share * (places[outer_index] - places[inner_index])
    for share, lid, next_to in (
        (0.12, lm.UPPER_LID_LEFT, lm.LID_CREASE_LEFT),
        (0.12, lm.UPPER_LID_RIGHT, lm.LID_CREASE_RIGHT),
        (0.25, lm.LOWER_LID_LEFT, lm.UNDER_LID_LEFT),
        (0.25, lm.LOWER_LID_RIGHT, lm.UNDER_LID_RIGHT),
    ):
        result[list(lid)] += share * (places[list(next_to)] - places[list(lid)])
    return result


def _prefiltered(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The portrait without the detail that a smaller picture cannot hold."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.32 * PORTRAIT_SIZE_PX / size), np.uint8)
