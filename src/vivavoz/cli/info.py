"""`vivavoz info`: what a preset is made of and what it costs."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("info", help="show what a preset is made of and what it costs", description=__doc__)
    parser.add_argument("preset", nargs="?", default="lite", help="paper, lite or tiny (default: lite)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--memory", action="store_true", help="what training it as published takes of 1, 8 and 128 GPUs of 80 GB")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the account of a preset."""
    from rich.console import Console

    from vivavoz.config_json import to_plain
    from vivavoz.engine.accounting import describe, render
    from vivavoz.presets import preset_by_name

    if options.memory:
        console = Console()
        console.width = max(console.width, 125)  # a narrow table of figures is none
        console.print(_memory(options.preset))
        return
    report = describe(preset_by_name(options.preset))
    if options.json:
        print(json.dumps(to_plain(report), indent=2))
    else:
        Console().print(render(report))
        print(_runtime(options.preset))


def _runtime(preset: str) -> str:
    import torch

    from vivavoz.engine.runtime import fastest_runtime, obstacles
    from vivavoz.presets import preset_by_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = preset_by_name(preset).vae
    name, why = fastest_runtime(device, vae)
    lines = [f"runtime on this machine ({device.type}): {name}; {why}"]
    lines += [f"  {other:20} {obstacle or 'there'}" for other, obstacle in obstacles(device, vae).items()]
    return "\n".join(lines)


def _memory(preset: str) -> Table:
    from vivavoz.errors import ConfigError
    from vivavoz.train.memory_plan import plan_latents, plan_video, render_plan
    from vivavoz.train.paper_recipes import GENERATOR_RECIPES, VAE_RECIPES

    if preset not in VAE_RECIPES:
        raise ConfigError(f"no published recipe trains the preset {preset!r}; expected {' or '.join(VAE_RECIPES)}")
    return render_plan([*plan_video(VAE_RECIPES[preset]()), *plan_latents(GENERATOR_RECIPES[preset]())])
