"""Texts to sound: espeak-ng on this machine, or any endpoint that speaks like OpenAI's `/v1/audio/speech`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import httpx
import numpy as np

from vivavoz.audio import espeak
from vivavoz.errors import SpeechError
from vivavoz.serve.protocol import Strict
from vivavoz.serve.settings import ServeSettings
from vivavoz.serve.sound import Pcm, RateConverter, pcm_from_bytes

_PIECE_BYTES = 9_600
_SENTENCE_END = re.compile(r"(?<=[.!?;:…。！？])\s+|\n+")
_VOICE_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}(\+[a-z0-9]{1,8})?")


class VoiceList(Strict):
    """What `voice` may be."""

    usual: str
    """Without a wish."""
    voices: list[str]
    """Of espeak-ng: languages, as in `en-us`."""
    variants: list[str]
    """What may follow a voice after a plus sign, as in `en-us+f3`; of a speech endpoint none."""


class Voice(Protocol):
    """Speaks texts."""

    async def choices(self) -> VoiceList:
        """What there is to choose from.

        Raises:
            VivavozError: it cannot be told.
        """

    def speak(self, text: str, voice: str | None) -> AsyncIterator[Pcm]:
        """Sound of `text` at `SOUND_RATE_HZ`, piece by piece, as soon as there is some; `voice` None takes the usual one.

        Raises:
            VivavozError: it cannot be spoken.
        """


class EspeakVoice:
    """The system's espeak-ng: plain, quick, and always at hand."""

    def __init__(self, voice: str = "en-us") -> None:
        self._voice = voice
        self._languages: list[str] | None = None

    async def choices(self) -> VoiceList:
        """See `Voice`; the system is asked once."""
        if self._languages is None:
            told, _ = await asyncio.to_thread(espeak.ask, espeak.Voice(language="en-us"), [])
            self._languages = told["languages"]
        return VoiceList(usual=self._voice, voices=self._languages, variants=list(espeak.VARIANTS))

    async def speak(self, text: str, voice: str | None) -> AsyncIterator[Pcm]:
        """See `Voice`; a sentence at a time."""
        name = voice or self._voice
        if not _VOICE_NAME.fullmatch(name):
            raise SpeechError(f"voice is {name!r}, expected a language and maybe a variant, as in en-us+f3")
        language, _, variant = name.partition("+")
        chosen = espeak.Voice(language=language, variant=variant)
        for sentence in sentences(text):
            told, pcm = await asyncio.to_thread(espeak.ask, chosen, [sentence])
            converter = RateConverter(told["rate_hz"])
            yield np.concatenate([converter.push(pcm_from_bytes(pcm)), converter.flush()])


class EndpointVoice:
    """An OpenAI-compatible endpoint that streams PCM16 at 24 kHz."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None,
        model: str,
        voice: str,
        others: Sequence[str] = (),
        client: httpx.AsyncClient | None = None,
    ) -> None:
        """`others`: voices that clients are told of beside the usual one; endpoints have no way of listing theirs."""
        self._url = url.rstrip("/") + "/audio/speech"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._model = model
        self._voice = voice
        self._others = others
        self._client = client or httpx.AsyncClient(timeout=30)

    async def choices(self) -> VoiceList:
        """See `Voice`."""
        return VoiceList(usual=self._voice, voices=list(dict.fromkeys([self._voice, *self._others])), variants=[])

    async def speak(self, text: str, voice: str | None) -> AsyncIterator[Pcm]:
        """See `Voice`."""
        order = {"model": self._model, "voice": voice or self._voice, "input": text, "response_format": "pcm"}
        rest = b""
        try:
            async with self._client.stream("POST", self._url, json=order, headers=self._headers) as response:
                if response.status_code != 200:
                    raise SpeechError(
                        f"the speech endpoint answered {response.status_code}, expected 200: check URL, key and model"
                    )
                async for data in response.aiter_bytes(_PIECE_BYTES):
                    data = rest + data
                    whole = len(data) // 2 * 2
                    rest = data[whole:]
                    yield pcm_from_bytes(data[:whole])
        except httpx.HTTPError as error:
            raise SpeechError(f"the speech endpoint cannot be reached ({type(error).__name__}); check its URL") from error


def make_voice(settings: ServeSettings) -> Voice:
    """The voice that a server was told to have."""
    if settings.speech_url is None:
        return EspeakVoice(settings.voice)
    return EndpointVoice(
        settings.speech_url,
        key=settings.speech_key,
        model=settings.speech_model,
        voice=settings.voice,
        others=[name.strip() for name in settings.speech_voices.split(",") if name.strip()],
    )


def sentences(text: str) -> list[str]:
    """A text cut after its sentences, so that the first can be heard soon."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
