from __future__ import annotations

import base64
import json
import typing
from pathlib import Path

import numpy as np
import pytest

from vivavoz.errors import ProtocolError
from vivavoz.serve import protocol
from vivavoz.serve.protocol_page import page
from vivavoz.serve.wire import MAX_EVENT_BYTES, decode_sound, parse_client_event

EVENTS = [
    {"type": "session.update", "session": {"state": "listening", "gaze_rad": [0.1, -0.1], "turn_detection": None}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit", "event_id": "e1"},
    {"type": "input_audio_buffer.clear"},
    {"type": "response.create", "response": {"text": "Hello"}},
    {"type": "response.create"},
    {"type": "response.audio.append", "audio": ""},
    {"type": "response.audio.done"},
    {"type": "response.cancel"},
]


def test_the_page_in_docs_is_that_of_the_models() -> None:
    written = Path(__file__).parents[3] / "docs" / "protocol.md"
    assert written.read_text(encoding="utf-8") == page(), "run python -m vivavoz.serve.protocol_page > docs/protocol.md"


def test_every_event_is_on_the_page() -> None:
    text = page()
    client = typing.get_args(typing.get_args(protocol.ClientEvent)[0])
    for model in (*client, *typing.get_args(protocol.ServerEvent)):
        name = typing.get_args(model.model_fields["type"].annotation)[0]
        assert f"### `{name}`\n" in text
    assert "Held until null" in text  # what the source says below a field


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["type"]))
def test_events_are_read(event: dict[str, object]) -> None:
    read = parse_client_event(json.dumps(event))
    assert read.model_dump(mode="json", exclude_unset=True) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["type"]))
def test_an_unknown_field_is_an_error_that_names_it(event: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="unknown field") as caught:
        parse_client_event(json.dumps(event | {"volume": 11}))
    assert caught.value.param == "volume"


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "session.update", "session": {"smile": 1}}, "session.smile"),
        ({"type": "session.update", "session": {"state": "asleep"}}, "session.state"),
        ({"type": "session.update", "session": {"gaze_rad": [0.1]}}, "session.gaze_rad.1"),
        ({"type": "session.update", "session": {"gaze_rad": [9, 0]}}, "session.gaze_rad.0"),
        ({"type": "session.update", "session": {"audio_format": {"rate": 44100}}}, "session.audio_format.rate"),
        ({"type": "session.update"}, "session"),
        ({"type": "response.create", "response": {"text": ""}}, "response.text"),
        ({"type": "response.create", "response": {"text": "a" * 4001}}, "response.text"),
        ({"type": "input_audio_buffer.append"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "audio"),
    ],
)
def test_a_wrong_value_is_named(event: dict[str, object], param: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_client_event(json.dumps(event))
    assert caught.value.param == param


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '"x"', "{", "{}", '{"type": 3}', '{"type": "x"}', "\x00", b"\xff\xfe"])
def test_what_is_no_event_is_an_error(text: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_client_event(text)


def test_an_event_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        parse_client_event(b" " * (MAX_EVENT_BYTES + 1))


def test_sound_is_read_and_what_is_none_refused() -> None:
    samples = np.array([0, 1, -1, 32767, -32768], np.int16)
    assert np.array_equal(decode_sound(base64.b64encode(samples.astype("<i2").tobytes()).decode()), samples)
    for wrong in ("A", "$$$$", "QQ==", "äöü"):  # no base64, or half a sample
        with pytest.raises(ProtocolError) as caught:
            decode_sound(wrong)
        assert caught.value.param == "audio"
