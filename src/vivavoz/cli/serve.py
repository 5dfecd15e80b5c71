"""`vivavoz serve`: a live server."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing

from vivavoz.errors import ConfigError

_HELP = "every option is also an environment variable: --max-sessions is VIVAVOZ_MAX_SESSIONS; see docs/serving.md"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command; its options are the fields of `ServeSettings`."""
    from vivavoz.serve.settings import ServeSettings, help_of_fields

    parser = commands.add_parser("serve", help="serve live avatars over WebRTC and WebSockets", description=__doc__, epilog=_HELP)
    hints = typing.get_type_hints(ServeSettings)
    texts = help_of_fields()
    for field in dataclasses.fields(ServeSettings):
        flag, hint = "--" + field.name.replace("_", "-"), hints[field.name]
        default = "" if field.default in (None, "", False) else f" (default: {field.default})"
        if hint is bool:
            parser.add_argument(flag, action="store_const", const=True, help=texts[field.name])
            continue
        choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else None
        kind = hint if hint in (int, float) else str
        metavar = None if choices else "TEXT" if kind is str else "N"
        parser.add_argument(flag, type=kind, choices=choices, metavar=metavar, help=texts[field.name] + default)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from vivavoz.serve.settings import settings_from

    settings = settings_from(vars(options))
    try:
        import uvicorn

        from vivavoz.serve.app import make_app
        from vivavoz.serve.background import uvicorn_config
    except ImportError as error:
        raise ConfigError(f"no {error.name} to serve with; expected it: pip install 'vivavoz[serve]'") from error
    from vivavoz.engine.weights import load

    if settings.ray:
        from vivavoz.serve import cluster

        cluster.start(settings, lambda: load(settings.model, runtime=settings.runtime))
        print(f"vivavoz: http://{settings.host}:{settings.port}", file=sys.stderr, flush=True)
        cluster.wait()
        return
    app = make_app(load(settings.model, runtime=settings.runtime), settings)
    print(f"vivavoz: http://{settings.host}:{settings.port}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn_config(app, settings)).run()
