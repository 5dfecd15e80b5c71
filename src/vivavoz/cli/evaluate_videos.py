"""`vivavoz evaluate videos`: the field's metrics over folders of videos, whoever made them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivavoz.evaluate.faces import FindLandmarks
    from vivavoz.evaluate.videos.judges import Judges

JUDGES = {
    "syncnet": "syncnet_v2.model: S_C and S_D",
    "i3d": "i3d_torchscript.pt: FVD25",
    "face_recognition": "a face-recognition network as ONNX: identity",
    "capp": "weights of train-capp: vivavoz CAPP (default: the package's own)",
    "sync": "weights of train-sync: vivavoz sync (default: the package's own)",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "videos",
        help="measure videos, alone or against the real ones",
        description="Measure video files of people who speak: lip sync, head and voice, video distance, pixels, identity, lips, "
        "blinks, background. A metric whose weights are not given is left out, and the report says what to fetch. Called again "
        "after a stop, it goes on where it was. Writes report.json, report.md and chart.png.",
    )
    parser.add_argument("generated", type=Path, metavar="GENERATED", help="folder of videos, or one")
    parser.add_argument("--real", type=Path, metavar="REAL", help="the real videos, under the same names")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the report goes")
    add_judges(parser)
    parser.set_defaults(run=run, resumes=True)


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Options for the weights of metrics."""
    told = "each also by an environment variable: VIVAVOZ_SYNCNET for --syncnet; VIVAVOZ_SQUEEZENET and VIVAVOZ_SQUEEZENET_HEADS"
    group = parser.add_argument_group("weights of metrics", told)
    for name, text in JUDGES.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="FILE", help=text)
    group.add_argument(
        "--squeezenet",
        nargs=2,
        type=Path,
        metavar=("BACKBONE", "HEADS"),
        help="SqueezeNet 1.1 of Keras (.h5) and LPIPS's heads for it (.pth): a perceptual distance where LPIPS is not installed",
    )
    group.add_argument("--device", default="cpu", help="where it is all computed (default: cpu)")


def run(options: argparse.Namespace) -> None:
    """Measure; progress goes to stderr, the table to stdout."""
    from vivavoz.evaluate.videos.folders import evaluate_videos, pair_videos
    from vivavoz.evaluate.videos.table import to_markdown, write_table

    pairs = pair_videos(options.generated, options.real)
    judges = load(options)
    with finding_faces() as find:
        table = evaluate_videos(pairs, judges, find, options.output / "scores", tell)
    write_table(table, options.output)
    print(to_markdown(table), end="")


def load(options: argparse.Namespace) -> Judges:
    """The judges that the options give weights for; a line on stderr for every one that is missing."""
    from vivavoz.evaluate.videos.judges import load_judges, paths_from

    backbone, heads = options.squeezenet or (None, None)
    given = {name: getattr(options, name) for name in JUDGES} | {"squeezenet": backbone, "squeezenet_heads": heads}
    judges = load_judges(paths_from(given), options.device)
    for line in judges.skipped:
        tell(f"left out: {line}")
    return judges


@contextmanager
def finding_faces() -> Iterator[FindLandmarks | None]:
    """MediaPipe's landmarks; None, and a line on stderr, where it is not installed."""
    from vivavoz.errors import DataError
    from vivavoz.rig.landmarks import face_mesh, mediapipe_solutions

    try:
        mediapipe_solutions()
    except DataError as error:
        tell(f"left out: what needs landmarks ({error})")
        yield None
        return
    with face_mesh() as find:
        yield find


def tell(line: str) -> None:
    """A line of progress."""
    print(f"vivavoz: {line}", file=sys.stderr, flush=True)
