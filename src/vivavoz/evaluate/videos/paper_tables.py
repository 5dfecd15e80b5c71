"""The rows of the paper's tables 1, 2, I and II, to be put beside one's own.

"Real-Time Generation of Streamable Talking Portrait Video with Reference-Guided Deep Compression VAEs", CC BY 4.0. Nothing
here was measured by this project.
"""

from __future__ import annotations

from typing import Final, Literal

from vivavoz.evaluate.videos.table import Row

Benchmark = Literal["hdtf", "portrait-one-min", "voxceleb2"]
BENCHMARKS: Final[tuple[Benchmark, ...]] = ("hdtf", "portrait-one-min", "voxceleb2")
PAPER_NAMES: Final = {"hdtf": "HDTF", "portrait-one-min": "PortraitOneMin", "voxceleb2": "VoxCeleb2"}

_GENERATION: Final = ("syncnet_confidence", "syncnet_distance", "capp", "fvd25")
_Four = tuple[float, float, float, float]

# Method, HDTF, PortraitOneMin, frames a second.
_TABLE_1: Final[tuple[tuple[str, _Four, _Four | None, float | None], ...]] = (
    ("EchoMIMIC", (5.291, 9.557, 0.341, 143.620), (4.863, 9.594, 0.208, 177.141), 1.4),
    ("EchoMIMIC-Distilled", (5.513, 9.350, 0.348, 174.061), (5.531, 9.187, 0.201, 201.899), 13.3),
    ("Hallo", (7.457, 7.841, 0.242, 90.880), (6.721, 8.275, 0.210, 179.072), 1.2),
    ("Hallo2", (7.547, 7.819, 0.247, 88.170), (6.829, 8.244, 0.196, 162.672), 1.2),
    ("Hallo3", (7.256, 8.596, 0.337, 76.430), (6.836, 8.724, 0.301, 175.340), 0.27),
    ("Sonic", (8.799, 6.602, 0.689, 43.920), (8.185, 7.031, 0.598, 95.047), 1.7),
    ("FantasyTalking", (4.167, 11.144, 0.407, 89.726), None, 0.36),
    ("paper, M = 1", (8.943, 6.286, 0.699, 62.300), (8.537, 6.619, 0.648, 91.964), 42.3),
    ("paper, M = 2", (9.056, 6.175, 0.739, 49.400), (8.438, 6.688, 0.677, 81.517), None),
    ("paper, M = 3", (8.998, 6.226, 0.739, 43.270), (8.546, 6.648, 0.659, 73.693), None),
)
_TABLE_I: Final[tuple[tuple[str, _Four, _Four, float], ...]] = (
    ("SadTalker", (7.497, 7.490, 0.479, 193.843), (6.957, 7.705, 0.413, 270.667), 3.8),
    ("VASA-1", (9.489, 5.928, 0.742, 114.863), (8.602, 6.541, 0.679, 119.474), 37.9),
    ("paper, M = 1", (9.196, 6.024, 0.707, 84.569), (8.182, 6.820, 0.601, 102.468), 23.3),
)
_Three = tuple[float, float, float]
# Audio and reference scale; S_C, S_D, FVD25 on HDTF.
_TABLE_II: Final[tuple[tuple[float, float, _Three], ...]] = (
    (1, 1, (7.476, 7.311, 101.112)),
    (2, 1, (9.234, 6.065, 79.677)),
    (2, 2, (8.943, 6.286, 62.300)),
    (2, 3, (8.749, 6.409, 80.183)),
    (3, 2, (9.262, 6.097, 71.464)),
    (3, 3, (9.024, 6.279, 81.358)),
)
# Configuration and M; L1, PSNR, LPIPS on VoxCeleb2 and on HDTF.
_TABLE_2: Final[tuple[tuple[str, int, _Three, _Three], ...]] = (
    ("without CR-VA", 0, (0.020, 29.071, 0.088), (0.021, 28.306, 0.087)),
    ("without CR-VA", 1, (0.014, 31.676, 0.051), (0.013, 32.068, 0.040)),
    ("without CR-VA", 2, (0.013, 32.305, 0.043), (0.012, 32.663, 0.035)),
    ("without CR-VA", 3, (0.012, 32.766, 0.039), (0.012, 33.149, 0.032)),
    ("with CR-VA", 0, (0.018, 29.604, 0.087), (0.020, 28.678, 0.086)),
    ("with CR-VA", 1, (0.013, 32.354, 0.045), (0.012, 33.469, 0.032)),
    ("with CR-VA", 2, (0.012, 33.281, 0.036), (0.010, 34.510, 0.027)),
    ("with CR-VA", 3, (0.011, 33.979, 0.031), (0.010, 35.374, 0.023)),
)

GUIDANCE_SETTINGS: Final = tuple((audio, reference) for audio, reference, _ in _TABLE_II)
"""Audio and reference scales of table II."""


def table_1_rows(benchmark: Benchmark) -> tuple[Row, ...]:
    """Audio-driven portraits; frames a second on one H100. Nothing for VoxCeleb2."""
    return _generation_rows("table 1", _TABLE_1, benchmark)


def table_i_rows(benchmark: Benchmark) -> tuple[Row, ...]:
    """Audio-driven heads; frames a second on one RTX 4090. Nothing for VoxCeleb2."""
    return _generation_rows("table I", _TABLE_I, benchmark)


def table_ii_rows(benchmark: Benchmark) -> tuple[Row, ...]:
    """Guidance scales, M = 1; the paper has them for HDTF only."""
    if benchmark != "hdtf":
        return ()
    names = ("syncnet_confidence", "syncnet_distance", "fvd25")
    return tuple(
        Row(
            label=f"paper, audio {audio:g}, reference {reference:g}",
            scores=dict(zip(names, values, strict=True)),
            source="paper, table II, HDTF",
        )
        for audio, reference, values in _TABLE_II
    )


def table_2_rows(benchmark: Benchmark) -> tuple[Row, ...]:
    """Reconstruction by the VAE. Nothing for PortraitOneMin."""
    if benchmark == "portrait-one-min":
        return ()
    rows = []
    base_db = 0.0
    for name, count, voxceleb2, hdtf in _TABLE_2:
        l1, psnr_db, lpips = voxceleb2 if benchmark == "voxceleb2" else hdtf
        scores = {"l1": l1, "psnr_db": psnr_db, "lpips": lpips}
        if count:
            scores["psnr_gain_db"] = round(psnr_db - base_db, 3)
        else:
            base_db = psnr_db  # the rows that follow are of the same model
        rows.append(Row(label=f"paper, {name}, M = {count}", scores=scores, source=f"paper, table 2, {PAPER_NAMES[benchmark]}"))
    return tuple(rows)


def _generation_rows(
    table: str, methods: tuple[tuple[str, _Four, _Four | None, float | None], ...], benchmark: Benchmark
) -> tuple[Row, ...]:
    rows = []
    for label, hdtf, one_min, fps in methods:
        values = {"hdtf": hdtf, "portrait-one-min": one_min, "voxceleb2": None}[benchmark]
        if values is None:
            continue
        scores = dict(zip(_GENERATION, values, strict=True))
        if fps is not None:
            scores["fps"] = fps
        rows.append(Row(label=label, scores=scores, source=f"paper, {table}, {PAPER_NAMES[benchmark]}"))
    return tuple(rows)
