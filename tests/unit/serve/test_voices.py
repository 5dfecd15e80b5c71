from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest

from tests.serving import settings, tone
from tests.unit.data.espeak_library import needs_espeak
from vivavoz.errors import ConfigError, SpeechError, VivavozError
from vivavoz.serve.sound import SOUND_RATE_HZ, Pcm
from vivavoz.serve.voices import EndpointVoice, EspeakVoice, Voice, VoiceList, make_voice, sentences


def spoken(voice: Voice, text: str, name: str | None = None) -> list[Pcm]:
    async def speak() -> list[Pcm]:
        return [piece async for piece in voice.speak(text, name)]

    return asyncio.run(speak())


def endpoint(answer: httpx.Response, asked: list[httpx.Request]) -> EndpointVoice:
    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    return EndpointVoice("http://speech.test/v1/", key="secret", model="m", voice="nova", client=client)


def test_a_text_is_cut_after_its_sentences() -> None:
    assert sentences("Hello. How are you?  I am 3.5 years old!\nBye") == ["Hello.", "How are you?", "I am 3.5 years old!", "Bye"]
    assert sentences("  ") == []


def test_an_endpoint_is_asked_as_openai_is_and_its_sound_passed_on() -> None:
    asked: list[httpx.Request] = []
    sound = tone(1.0)
    pieces = spoken(endpoint(httpx.Response(200, content=sound.astype("<i2").tobytes()), asked), "Hello")
    assert len(pieces) > 2
    assert np.array_equal(np.concatenate(pieces), sound)
    assert str(asked[0].url) == "http://speech.test/v1/audio/speech"
    assert asked[0].headers["authorization"] == "Bearer secret"
    assert json.loads(asked[0].content) == {"model": "m", "voice": "nova", "input": "Hello", "response_format": "pcm"}


def test_an_endpoint_that_refuses_is_an_error_without_its_answer() -> None:
    with pytest.raises(SpeechError, match="401") as caught:
        spoken(endpoint(httpx.Response(401, content=b"internal details"), []), "Hello")
    assert "details" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_is_not_there_is_an_error() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    with pytest.raises(SpeechError, match="cannot be reached"):
        spoken(EndpointVoice("http://speech.test", key=None, model="m", voice="v", client=client), "Hello")


@needs_espeak
def test_espeak_speaks_sentence_by_sentence() -> None:
    pieces = spoken(EspeakVoice(), "Good morning. How are you today?")
    assert len(pieces) == 2
    for piece in pieces:
        assert 0.4 * SOUND_RATE_HZ < len(piece) < 3 * SOUND_RATE_HZ
        assert np.abs(piece).max() > 3000


@needs_espeak
def test_a_voice_that_espeak_does_not_have_is_an_error() -> None:
    with pytest.raises(ConfigError, match="xx-nowhere"):
        spoken(EspeakVoice(), "Hello", "xx-nowhere")


@pytest.mark.parametrize("name", ["../../etc", "en-us+f3; rm", "", "a" * 50, "en us"])
def test_names_of_voices_are_names(name: str) -> None:
    if name:
        with pytest.raises(VivavozError):
            spoken(EspeakVoice(), "Hello", name)


def test_settings_choose_the_voice() -> None:
    assert isinstance(make_voice(settings()), EspeakVoice)
    assert isinstance(make_voice(settings(speech_url="http://speech.test/v1")), EndpointVoice)


def test_an_endpoint_has_the_voices_that_the_server_was_told_of() -> None:
    voice = make_voice(settings(speech_url="http://speech.test/v1", voice="nova", speech_voices="alloy, nova ,echo,"))
    assert asyncio.run(voice.choices()) == VoiceList(usual="nova", voices=["nova", "alloy", "echo"], variants=[])


@needs_espeak
def test_espeak_has_the_systems_languages_in_several_variants() -> None:
    list_ = asyncio.run(EspeakVoice("de").choices())
    assert list_.usual == "de"
    assert {"de", "en-us", "fr-fr"} <= set(list_.voices)
    assert "f3" in list_.variants
