"""`vivavoz generate`: portraits and a sound file to a video file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vivavoz.engine.runtime_names import RUNTIME_NAMES
from vivavoz.errors import ConfigError

if TYPE_CHECKING:
    from vivavoz.engine.controls import Wishes


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "generate",
        help="make a video file from portraits and speech",
        description="Make a talking-portrait video from one to three portraits of a person and a recording of speech.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="PORTRAIT... SPEECH",
        help="pictures of one person, or an avatar of vivavoz personalise, then a sound file",
    )
    parser.add_argument("-o", "--output", required=True, metavar="VIDEO", help="video to write: .mp4, .m4v, .mov or .mkv")
    parser.add_argument("--model", default="lite", metavar="NAME", help="a preset, or a folder with weights (default: lite)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same video (default: 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps per block (default: the preset's)")
    parser.add_argument("--guidance-audio", type=float, metavar="SCALE", help="pull towards the sound; 1: none")
    parser.add_argument("--guidance-reference", type=float, metavar="SCALE", help="pull towards the portraits; 1: none")
    parser.add_argument("--block", type=int, choices=(1, 2, 4), help="latent frames made together (default: the preset's)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the video (default: the preset's)")
    parser.add_argument(
        "--crop", choices=("auto", "none"), default="auto", help="find and frame the face, or take the centre square"
    )
    parser.add_argument(
        "--as-is",
        action="store_true",
        help="show the decoder a lone portrait as it is, not with lips shut and with mouth open",
    )
    wishes = parser.add_argument_group(
        "what the face does beside speaking", "left to the model where not given; angles in radians"
    )
    wishes.add_argument("--state", metavar="STATE", help="speaking, listening or idle")
    wishes.add_argument(
        "--expression", metavar="NAME[:INTENSITY]", help="neutral, happy, sad, angry, surprised, afraid, disgusted"
    )
    wishes.add_argument("--gaze", metavar="YAW,PITCH", help="of the eyes: to the right of the picture, up; for example 0.2,0")
    wishes.add_argument("--pose", metavar="YAW,PITCH,ROLL", help="of the head: right, up, tipped to the right")
    wishes.add_argument("--controls", metavar="FILE", help="wishes over time, JSON or CSV (docs/controls.md)")
    parser.add_argument(
        "--runtime",
        choices=RUNTIME_NAMES,
        default="auto",
        metavar="NAME",
        help="how the model runs: auto, or a name that vivavoz info lists (default: auto)",
    )
    parser.add_argument(
        "--overlap", action="store_true", help="make a block while the one before is drawn: faster where there is room for both"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Make the video; progress goes to stderr, the last line to stdout."""
    from vivavoz.cli.progress import showing_progress
    from vivavoz.engine.avatar_file import AVATAR_SUFFIX
    from vivavoz.engine.generate import read_speech, render
    from vivavoz.engine.weights import load

    *portraits, speech = options.files
    if not portraits:
        raise ConfigError(f"got only {speech}; expected one to three portraits and then a sound file: name both")
    wishes = _wishes(options)
    samples = read_speech(speech)
    model = load(options.model, runtime=options.runtime)
    avatar = model.avatar(portraits, options.crop, options.size, posed=not options.as_is)
    for path, crop in zip(portraits, avatar.crops, strict=False):  # a stored avatar is one file for all of its portraits
        if crop.num_faces > 1:
            print(f"vivavoz: {crop.num_faces} faces in {path}; the largest is animated", file=sys.stderr)
    if len(avatar.shown) == 1 < model.preset.lone_references and not options.as_is and Path(portraits[0]).suffix != AVATAR_SUFFIX:
        print(f"vivavoz: {portraits[0]} is shown as it is: no frontal face found whose mouth could be posed", file=sys.stderr)
    with showing_progress() as progress:
        summary = render(
            avatar,
            samples,
            options.output,
            seed=options.seed,
            num_steps=options.steps,
            guidance_audio=options.guidance_audio,
            guidance_reference=options.guidance_reference,
            block_latents=options.block,
            controls=wishes,
            overlap=options.overlap,
            progress=progress,
        )
    print(
        f"{options.output}: {summary.num_frames} frames, {summary.seconds:.2f} s, {summary.fps:.1f} frames/s, "
        f"real-time factor {summary.real_time_factor:.2f}, first picture after {1000 * summary.first_picture_latency_s:.0f} ms"
    )


def _wishes(options: argparse.Namespace) -> Wishes | None:
    from vivavoz.engine.control_file import read_control_track
    from vivavoz.engine.controls import StreamControls

    given = [name for name in ("state", "expression", "gaze", "pose") if getattr(options, name) is not None]
    if options.controls is not None:
        if given:
            raise ConfigError(f"got --controls and --{given[0]}, expected one: put everything into the file")
        return read_control_track(Path(options.controls))
    if not given:
        return None
    name, _, intensity = (options.expression or "").partition(":")
    return StreamControls(
        state=options.state,
        expression=name or None,  # type: ignore[arg-type]
        expression_intensity=_numbers("expression", intensity, 1)[0] if intensity else 1.0,
        gaze_rad=None if options.gaze is None else _numbers("gaze", options.gaze, 2),  # type: ignore[arg-type]
        head_pose_rad=None if options.pose is None else _numbers("pose", options.pose, 3),  # type: ignore[arg-type]
    )


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ConfigError(f"--{option} has {text!r}, expected {count} number{'s' if count > 1 else ''} separated by commas")
    return numbers
