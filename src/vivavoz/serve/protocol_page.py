"""Writes docs/protocol.md from the events' models: `python -m vivavoz.serve.protocol_page > docs/protocol.md`."""

from __future__ import annotations

import inspect
import json
import re
import typing
from typing import Any

from pydantic import BaseModel

from vivavoz.serve import protocol

_HEAD = """# The protocol of a session

A client speaks to a session in events: JSON objects with a `type`, over the WebSocket `/v1/realtime` or over the data channel of
a WebRTC connection. The shape is that of the OpenAI Realtime API, as far as both do the same; there is no language model in
here, so a response is what the client gives: a text, or sound.

This page is made from the models in `vivavoz/serve/protocol.py` by `python -m vivavoz.serve.protocol_page`.

## Connecting

| address | what |
| --- | --- |
| `/v1/realtime?avatar=ID` | opens a session of an avatar; it ends with the connection |
| `/v1/realtime?session=ID` | joins a session that `POST /v1/sessions` opened |

The token goes into the header `Authorization: Bearer TOKEN`. Browsers, which cannot set it, offer two subprotocols:
`realtime` and `vivavoz-token.TOKEN`, where the token may be the session's `client_secret`. A refused connection gets an
`error` event where it can (a wrong token: none), and is closed: 1008 for what will not change, 1013 for a full server.

## Sound and time

All sound is little-endian PCM16, mono, in base64. The client's is at `audio_format.rate`, the server's at
`session.sound_rate_hz`. Times in `time_ms` are on the session's clock, which starts with the first picture; a picture lasts
40 ms. With `output.type` `mp4` the binary messages, one after the other, are one fragmented MP4 (H.264 and AAC): append them to
a `SourceBuffer` of the type in `output.started`. Its time 0 is this connection's first picture.

## Errors

An event that cannot be understood, or done, is answered by `error`, and the session goes on. `error.param` names the field; an
unknown field is an error. `error.event_id` is that of the client's event, if it had one.

| `error.code` | what |
| --- | --- |
| `invalid_event` | the event is not as below |
| `invalid_value` | a value cannot be used: a control that the model does not have, for example |
| `refused` | a limit: too much speech or sound is waiting |
| `speech_failed` | a text could not be spoken |
| `not_found`, `full`, `rate_limited` | on connecting only |
| `internal` | pictures cannot be made any more; `session.closed` follows |

An example:

```json
{"type": "session.update", "session": {"expression": "happy", "output": {"type": "jpeg"}}}
{"type": "response.create", "response": {"text": "Good morning."}}
{"type": "response.cancel"}
```
"""


def page() -> str:
    """The page, as Markdown."""
    client = typing.get_args(typing.get_args(protocol.ClientEvent)[0])
    parts = [_HEAD, "## From the client\n", *map(_event, client)]
    parts += ["## From the server\n", *map(_event, typing.get_args(protocol.ServerEvent))]
    shared = (
        protocol.SessionControls,
        protocol.AudioFormat,
        protocol.TurnDetection,
        protocol.Output,
        protocol.SessionInfo,
        protocol.SessionMetrics,
        protocol.ResponseInput,
        protocol.ResponseInfo,
        protocol.ErrorInfo,
    )
    parts += ["## Objects\n", *(_object(model) for model in shared)]
    return "\n".join(parts).rstrip() + "\n"


def _event(model: type[BaseModel]) -> str:
    return f"### `{_type(model)}`\n\n{inspect.getdoc(model)}\n\n{_fields(model)}"


def _object(model: type[BaseModel]) -> str:
    return f"### {model.__name__}\n\n{inspect.getdoc(model)}\n\n{_fields(model)}"


def _type(model: type[BaseModel]) -> str:
    return str(typing.get_args(model.model_fields["type"].annotation)[0])


def _fields(model: type[BaseModel]) -> str:
    properties = model.model_json_schema(ref_template="{model}")["properties"]
    comments = _comments(model)
    rows = [
        f"| `{name}` | {_kind(schema)} | {_default(model, name)} | {comments.get(name, '')} |"
        for name, schema in properties.items()
        if not (name == "type" and "const" in schema)
    ]
    return "\n".join(["| field | value | default | |", "| --- | --- | --- | --- |", *rows, ""]) if rows else ""


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"[{schema['$ref']}](#{schema['$ref'].lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} of {_kind(schema['prefixItems'][0])}"
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most"))
        if key in schema
    ]
    letters = " letters" if "minLength" in schema or "maxLength" in schema else ""
    return " ".join([str(schema.get("type", "any")), *bounds]) + letters


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return f"`{value.model_dump_json()}`"
    return f"`{json.dumps(value)}`"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """The line below each field, as the source has it; those of parent classes too."""
    comments: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part is not BaseModel and issubclass(part, BaseModel) and part.__module__ == protocol.__name__:
            found = re.findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', inspect.getsource(part), re.MULTILINE | re.DOTALL)
            comments |= {name: " ".join(text.split()) for name, text in found}
    return comments


if __name__ == "__main__":
    print(page(), end="")
