"""`vivavoz data animate`: talking portraits from pictures, and recordings or synthesised speech."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "animate",
        help="make clips from portraits and speech",
        description="Let portraits speak, listen and idle: labelled clips of at most 10 seconds in shards. The same "
        "folders, hours and seed give the same bytes; called again after a stop, it goes on where it was.",
    )
    parser.add_argument("--portraits", required=True, type=Path, metavar="DIR", help="pictures of faces, one per person")
    parser.add_argument(
        "--speech",
        type=Path,
        metavar="DIR",
        help="recordings of English speech; their words may lie in a .txt beside",
    )
    parser.add_argument(
        "--espeak",
        metavar="LANG[,LANG...]",
        help="speech that espeak-ng makes, instead of recordings or beside them: en-us,de,fr-fr (apt install espeak-ng)",
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="what espeak-ng says: one sentence a line, LANG|sentence (default: sentences in en, de, fr, es, it, pl)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="SHARDS", help="folder or URL of the corpus")
    parser.add_argument("--hours", required=True, type=float, metavar="H", help="length of the corpus, at least")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all chance (default: 0)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="prepared portraits and speech (default: SHARDS/.prepared)")
    parser.add_argument("--licence", default="unknown", metavar="TEXT", help="of portraits and speech (default: 'unknown')")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="shards to work on at a time (default: 1)")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster; its machines must see every folder")
    parser.set_defaults(run=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Animate; progress goes to stderr, what came of it to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.data.animation import animate
    from vivavoz.data.talkers import talkers
    from vivavoz.errors import ConfigError

    if options.speech is None and options.espeak is None:
        raise ConfigError("got no speech, expected recordings or languages: add --speech DIR, --espeak LANG[,LANG...] or both")
    if options.text is not None and options.espeak is None:
        raise ConfigError(f"got the text {options.text} and nobody to speak it; add --espeak LANG[,LANG...]")
    if options.cache is None and "://" in options.output:
        raise ConfigError(f"got the URL {options.output} and no cache; expected a folder for prepared files: add --cache DIR")
    languages = [part.strip() for part in (options.espeak or "").split(",")]
    voices = None if options.espeak is None else talkers(languages, options.text)
    with showing_training() as report:
        manifest = animate(
            options.portraits,
            options.speech,
            options.output,
            talkers=voices,
            hours=options.hours,
            seed=options.seed,
            cache=options.cache or Path(options.output) / ".prepared",
            licence=options.licence,
            ray_address=options.ray,
            num_processes=options.processes,
            report=report,
        )
    summary = manifest.summary()
    print(
        f"{options.output}: {summary['clips']} clips of {summary['identities']} people, {summary['seconds'] / 3600:.2f} h,"
        f" in {summary['shards']} shards of {summary['bytes'] / 1e6:.0f} MB"
    )
