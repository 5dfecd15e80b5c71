"""What a server can be told, by flags or by environment variables."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import ipaddress
import itertools
import os
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vivavoz.engine.runtime_names import RuntimeName
from vivavoz.errors import ConfigError
from vivavoz.generator.config import BLOCK_SIZES

PREFIX = "VIVAVOZ_"
"""Before the name of every environment variable: `VIVAVOZ_MAX_SESSIONS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """A server. Every field is a flag of `vivavoz serve` and an environment variable; the comment below each is its help."""

    host: str = "127.0.0.1"
    """address to listen on"""
    port: int = 8000
    """port to listen on"""
    token: str | None = None
    """secret that clients send as `Authorization: Bearer TOKEN`"""
    no_auth: bool = False
    """let everybody in; on loopback addresses only"""
    model: str = "lite"
    """a preset, or a folder with weights"""
    runtime: RuntimeName = "auto"
    """how the model runs: auto, or a name that `vivavoz info` lists"""
    threads: int = 0
    """CPU threads for the model; 0: as PyTorch chooses"""
    size_px: int = 0
    """side of the video in pixels, 256, 384 or 512 for example; 0: the preset's"""
    block_latents: int = 1
    """latent frames made together: 1 reacts soonest, 4 costs least"""
    slow_block_latents: int = 1
    """latent frames made together when the machine is too slow; not above block_latents: never more than usual"""
    speech_jitter_ms: int = 80
    """how unevenly sound may come in real time without gaps in the avatar's speech"""
    max_sessions: int = 4
    """sessions at once; more are answered 503"""
    max_avatars: int = 100
    """avatars kept; the one unused longest goes first"""
    max_session_s: float = 3600.0
    """longest session"""
    idle_session_s: float = 60.0
    """a session that nobody watches ends after this"""
    avatar_ttl_s: float = 3600.0
    """an avatar unused for this long is forgotten"""
    max_upload_mb: float = 24.0
    """largest request"""
    max_image_megapixels: float = 25.0
    """largest picture, decoded"""
    max_requests_per_minute: int = 120
    """avatars, sessions and offers that one address may ask for"""
    max_queued_speech_s: float = 600.0
    """speech a session may have waiting"""
    max_queued_texts: int = 32
    """texts a session may have waiting"""
    max_viewers: int = 8
    """transports of one session"""
    voice: str = "en-us"
    """espeak-ng's language and variant, or the speech endpoint's voice"""
    speech_url: str | None = None
    """an OpenAI-compatible endpoint that speaks texts, up to and including /v1; without it espeak-ng does"""
    speech_key: str | None = None
    """its key"""
    speech_model: str = "tts-1"
    """its model"""
    speech_voices: str = ""
    """voices of the speech endpoint that clients are told of beside `voice`, separated by commas"""
    ice_servers: str = ""
    """STUN and TURN servers, separated by commas: stun:HOST:PORT, turn:USER:PASSWORD@HOST:PORT"""
    allowed_origins: str = ""
    """web pages that may open WebSockets and fetch, beside the server's own: origins separated by commas, or *"""

    ray: bool = False
    """serve with replicas, on the Ray cluster of RAY_ADDRESS or one of this machine"""
    replicas: int = 2
    """how many, with ray"""
    replica_cpus: float = 1.0
    """CPUs that Ray sets aside for each"""
    replica_gpus: float = 0.0
    """GPUs that Ray sets aside for each"""

    def __post_init__(self) -> None:
        for name in ("block_latents", "slow_block_latents"):
            if getattr(self, name) not in BLOCK_SIZES:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected one of {BLOCK_SIZES}: choose one of these")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                raise ConfigError(f"{field.name} is {value}, expected 0 or more")
        if self.no_auth and not is_loopback(self.host):
            raise ConfigError(f"no_auth with host {self.host}; expected a loopback address (127.0.0.1): set a token instead")
        if not self.no_auth and not self.token:
            raise ConfigError("no token; expected one to let clients in: set VIVAVOZ_TOKEN, or --no-auth on this machine only")

    @property
    def upload_bytes(self) -> int:
        """Largest request."""
        return int(self.max_upload_mb * 1e6)


def help_of_fields() -> dict[str, str]:
    """The line below each field of `ServeSettings`, by the field's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(ServeSettings))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for declared, told in itertools.pairwise(body.body):
        if isinstance(declared, ast.AnnAssign) and isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant):
            texts[ast.unparse(declared.target)] = str(told.value.value)
    return texts


def settings_from(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> ServeSettings:
    """Flags that were given (not None) before environment variables before defaults. Raises `ConfigError`."""
    environment = os.environ if environment is None else environment
    hints = typing.get_type_hints(ServeSettings)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(ServeSettings):
        if given.get(field.name) is not None:
            values[field.name] = given[field.name]
        elif (text := environment.get(PREFIX + field.name.upper())) is not None:
            values[field.name] = _parse(hints[field.name], text, PREFIX + field.name.upper())
    return ServeSettings(**values)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _parse(hint: Any, text: str, name: str) -> Any:
    if hint is bool:
        if text.lower() not in ("0", "1", "true", "false", "yes", "no", ""):
            raise ConfigError(f"{name} is {text!r}, expected 1 or 0")
        return text.lower() in ("1", "true", "yes")
    if typing.get_origin(hint) is Literal:
        if text not in typing.get_args(hint):
            raise ConfigError(f"{name} is {text!r}, expected one of {', '.join(typing.get_args(hint))}")
        return text
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError as error:
            raise ConfigError(f"{name} is {text!r}, expected a number") from error
    return text
