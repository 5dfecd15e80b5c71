"""`vivavoz bench`: how fast a model is on this machine, as the paper counts it, and what of the machine it uses."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from vivavoz.errors import ConfigError

if TYPE_CHECKING:
    from vivavoz.engine.runtime import RuntimeName


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="measure a model's speed on this machine",
        description="Time a block as the paper does: audio encoder and generator behind the fullest window (t_G), decoder (t_D), "
        "pictures over their sum; the wait for the first picture; memory. Beside it stand the operations and bytes that a block "
        "needs, and what the machine was seen to do at most. Leave the machine alone meanwhile.",
    )
    parser.add_argument(
        "--model", default="lite", metavar="NAME", help="a preset, or a folder with weights; random where a preset has none"
    )
    parser.add_argument("--runtime", default="auto", metavar="NAME[,NAME]", help="runtimes to measure, or all (default: auto)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps per block (default: the preset's)")
    parser.add_argument(
        "--guidance", type=float, metavar="SCALE", help="for sound and portraits; 1: none (default: the preset's)"
    )
    parser.add_argument("--block", type=int, choices=(1, 2, 4), help="latent frames made together (default: the preset's)")
    parser.add_argument("--sessions", type=int, default=1, metavar="N", help="conversations at a time (default: 1)")
    parser.add_argument(
        "--overlap",
        action="store_true",
        help="also time blocks of which the next is generated while this one is decoded",
    )
    parser.add_argument("--device", metavar="DEVICE", help="to compute on (default: cuda if there is one, else cpu)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 on cuda, else float32")
    parser.add_argument("--warmup", type=int, default=2, metavar="N", help="blocks before those that count (default: 2)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="blocks that count (default: 10)")
    parser.add_argument("--count", action="store_true", help="only count operations and bytes; nothing is run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", metavar="REPORT", help="also write the figures there, .json")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure; what is measured next goes to stderr, the figures to stdout."""
    import torch
    from rich.console import Console

    from vivavoz.bench.counting import with_sampling
    from vivavoz.bench.report import count_only, preset_of, render, run_bench
    from vivavoz.bench.speed import Plan
    from vivavoz.engine.weights import check_device
    from vivavoz.media.output import whole_file

    plan = Plan(
        sampling=with_sampling(preset_of(options.model), options.steps, options.guidance, options.block).sampling,
        sessions=options.sessions,
        warmup=options.warmup,
        repeats=options.repeats,
        overlap=options.overlap,
    )
    name = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    dtype = getattr(torch, options.dtype) if options.dtype else torch.bfloat16 if device.type == "cuda" else torch.float32
    with ExitStack() as stack:
        target = stack.enter_context(whole_file(options.output, {".json"})) if options.output else None
        if options.count:
            report = count_only(options.model, plan, dtype=dtype)
        else:
            report = run_bench(options.model, plan, _runtimes(options.runtime), device=device, dtype=dtype, tell=_tell)
        if target is not None:
            target.write_text(report.to_json(), encoding="utf-8")
    if options.json:
        print(report.to_json(), end="")
        return
    console = Console()
    console.width = max(console.width, 125)  # a narrow table of figures is none
    console.print(render(report))


def _tell(line: str) -> None:
    print(f"vivavoz: {line} ...", file=sys.stderr, flush=True)


def _runtimes(names: str) -> list[RuntimeName]:
    from vivavoz.engine.runtime import RUNTIME_NAMES

    if names == "all":
        return [name for name in RUNTIME_NAMES if name != "auto"]
    wanted = names.split(",")
    for name in wanted:
        if name not in RUNTIME_NAMES:
            raise ConfigError(f"unknown runtime {name!r}; expected all, or some of {', '.join(RUNTIME_NAMES)}")
    return wanted  # type: ignore[return-value]
