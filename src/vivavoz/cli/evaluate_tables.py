"""`vivavoz evaluate table1|table2|tableI|tableII`: the paper's protocols over a corpus of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vivavoz.cli.evaluate_videos import add_judges, finding_faces, load, tell
from vivavoz.errors import ConfigError

if TYPE_CHECKING:
    from vivavoz.engine.model import Model
    from vivavoz.evaluate.videos.protocol import Selection
    from vivavoz.evaluate.videos.table import Table

_TABLES = {
    "table1": "talking portraits with 1, 2 and 3 references: sync, head and voice, video distance, speed",
    "table2": "what the VAE rebuilds with 0 to 3 references: L1, PSNR, LPIPS",
    "tableI": "talking heads: table1 on a crop of the head, one reference",
    "tableII": "guidance scales for sound and references, one reference",
}
_BENCHMARKS = ("hdtf", "portrait-one-min", "voxceleb2")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare a command for every table."""
    for name, text in _TABLES.items():
        parser = commands.add_parser(
            name,
            help=text,
            description=f"The paper's {name.replace('table', 'table ')}: {text}. The corpus is made by vivavoz data prepare. "
            "Called again after a stop, it goes on where it was. Writes report.json, report.md and chart.png: own rows, and "
            "the paper's beside.",
        )
        parser.add_argument("dataset", metavar="SHARDS", help="folder or URL of the corpus")
        parser.add_argument(
            "-o", "--output", required=True, type=Path, metavar="FOLDER", help="where videos, scores and report go"
        )
        parser.add_argument("--model", default="lite", metavar="MODEL", help="a preset, or a folder with weights (default: lite)")
        parser.add_argument("--split", choices=("train", "validation", "test"), help="of the corpus (default: all of it)")
        parser.add_argument("--people", type=int, default=66, metavar="N", help="people, at most (default: 66)")
        parser.add_argument("--segments", type=int, default=2, metavar="N", help="clips of each, at most (default: 2)")
        parser.add_argument("--max-frames", type=int, metavar="N", help="only the first pictures of each clip")
        parser.add_argument("--benchmark", choices=_BENCHMARKS, default="hdtf", help="whose rows of the paper stand beside")
        if name == "table2":
            parser.add_argument(
                "--variant",
                action="append",
                default=[],
                metavar="NAME=FOLDER",
                help="another model, under this name; may be given often: without CR-VA, without references",
            )
        else:
            parser.add_argument("--steps", type=int, metavar="N", help="Euler steps (default: the preset's)")
            parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
        add_judges(parser)
        run = _run_reconstruction if name == "table2" else _run_generation
        parser.set_defaults(run=run, resumes=True, table=name)


def _run_generation(options: argparse.Namespace) -> None:
    from vivavoz.evaluate.videos.generation_tables import GenerationRun, run_generation_table

    run = GenerationRun(
        table=options.table,
        selection=_selection(options, head=options.table == "tableI"),
        benchmark=options.benchmark,
        num_steps=options.steps,
        seed=options.seed,
    )
    model = _load_model(options.model, options.device)
    judges = load(options)
    with finding_faces() as find:
        _finish(run_generation_table(run, model, judges, find, options.output, tell), options.output)


def _run_reconstruction(options: argparse.Namespace) -> None:
    from vivavoz.evaluate.videos.reconstruction_table import ReconstructionRun, run_reconstruction_table

    run = ReconstructionRun(selection=_selection(options, head=False), benchmark=options.benchmark)
    models = {Path(options.model).name: _load_model(options.model, options.device)}
    for variant in options.variant:
        name, equals, folder = variant.partition("=")
        if not (name and equals and folder) or name in models:
            raise ConfigError(f"got --variant {variant!r}, expected NAME=FOLDER with a name of its own")
        models[name] = _load_model(folder, options.device)
    _finish(run_reconstruction_table(run, models, load(options), options.output, tell), options.output)


def _selection(options: argparse.Namespace, *, head: bool) -> Selection:
    from vivavoz.evaluate.videos.protocol import Selection

    return Selection(
        folder=options.dataset,
        split=options.split,
        num_people=options.people,
        segments_per_person=options.segments,
        max_frames=options.max_frames,
        head=head,
    )


def _load_model(name: str, device: str) -> Model:
    from vivavoz.engine.weights import load

    return load(name, device=device)


def _finish(table: Table, output: Path) -> None:
    from vivavoz.evaluate.videos.table import to_markdown, write_table

    write_table(table, output)
    print(to_markdown(table), end="")
