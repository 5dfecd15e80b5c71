"""Events as they travel: JSON text to models, base64 to sound, and what is wrong with either."""

from __future__ import annotations

import base64
import binascii
import typing

from pydantic import TypeAdapter, ValidationError

from vivavoz.errors import ProtocolError
from vivavoz.serve.protocol import ClientEvent
from vivavoz.serve.sound import Pcm, pcm_from_bytes

MAX_EVENT_BYTES = 4_000_000
"""Longest event a client may send."""

_CLIENT_EVENTS: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)
_CLIENT_TYPES = {
    typing.get_args(model.model_fields["type"].annotation)[0] for model in typing.get_args(typing.get_args(ClientEvent)[0])
}


def parse_client_event(text: str | bytes) -> ClientEvent:
    """Read a client's event. Raises `ProtocolError` for anything else, which names the field that is wrong."""
    if len(text) > MAX_EVENT_BYTES:
        raise ProtocolError(
            f"got an event of {len(text)} bytes, expected at most {MAX_EVENT_BYTES}: send sound in smaller pieces"
        )
    try:
        return _CLIENT_EVENTS.validate_json(text)
    except ValidationError as error:
        raise _protocol_error(error) from error


def _protocol_error(error: ValidationError) -> ProtocolError:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"] if part not in _CLIENT_TYPES)
    what = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
    return ProtocolError(f"{param or 'event'}: {what}", param=param or None)


def decode_sound(audio: str) -> Pcm:
    """Samples `(N,)` from base64. Raises `ProtocolError` for anything else."""
    try:
        data = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("audio: not base64; expected base64 of 16-bit samples", param="audio") from error
    if len(data) % 2:
        raise ProtocolError(f"audio: {len(data)} bytes; expected whole 16-bit samples, two bytes each", param="audio")
    return pcm_from_bytes(data)


def encode_bytes(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")
