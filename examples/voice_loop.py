"""Talk with an avatar: microphone -> transcription -> language model -> speech -> avatar, and interrupt it whenever you like.

    vivavoz serve --no-auth
    OPENAI_API_KEY=... python examples/voice_loop.py anna.jpg                        # OpenAI for all three
    python examples/voice_loop.py anna.jpg --llm-url http://localhost:11434/v1 --llm-model llama3.2 \\
        --hear-url http://localhost:8001/v1 --speak-url http://localhost:8880/v1     # or anything that speaks like it

The server hears when you begin and stop (its voice detection) and stops the avatar when you break in; this script does the rest:
what you said goes to the transcription endpoint, the text to the language model, its sentences, one by one as they come, to the
speech endpoint, and the sound to the avatar. The microphone, and a window to see the avatar, need `pip install sounddevice`.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import wave
from collections.abc import AsyncIterator

import httpx
import numpy as np

from vivavoz.audio.reading import read_audio
from vivavoz.cli.talk import screen
from vivavoz.client import LiveAvatar, connect
from vivavoz.serve.protocol import ErrorEvent, OutputFrame, SpeechStarted, SpeechStopped
from vivavoz.serve.sound import Pcm, RateConverter, pcm_from_bytes
from vivavoz.serve.voices import sentences
from vivavoz.timing import SAMPLE_RATE_HZ

RATE_HZ = 24_000
BEFORE_MS = 400
"""Sound before the voice was detected that belongs to what was said."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Talk with an avatar.")
    parser.add_argument("portraits", nargs="+", help="one to three pictures of one person")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of `vivavoz serve`; its token is VIVAVOZ_TOKEN")
    parser.add_argument("--llm-url", default="https://api.openai.com/v1", help="OpenAI-compatible; the key is OPENAI_API_KEY")
    parser.add_argument("--llm-model", default="gpt-4.1-mini")
    parser.add_argument("--hear-url", help="of the transcription (default: the language model's)")
    parser.add_argument("--hear-model", default="gpt-4o-mini-transcribe")
    parser.add_argument("--speak-url", help="of the speech (default: the language model's)")
    parser.add_argument("--speak-model", default="gpt-4o-mini-tts")
    parser.add_argument("--voice", default="alloy")
    parser.add_argument("--prompt", default="You are on a video call. Answer in one or two short spoken sentences.")
    parser.add_argument("--input", help="a recording instead of the microphone; ends after it was answered")
    parser.add_argument("--output", help="write a video instead of opening a window")
    return parser.parse_args()


class Loop:
    """What was said so far, and the three endpoints."""

    def __init__(self, options: argparse.Namespace, client: httpx.AsyncClient) -> None:
        self.options = options
        self.client = client
        self.messages = [{"role": "system", "content": options.prompt}]
        self.heard = np.zeros(0, np.int16)
        """All of the microphone's sound; the server's times count from its first sample."""

    async def answer(self, avatar: LiveAvatar, said: Pcm) -> None:
        """Have the avatar answer; cancelled when the user breaks in."""
        text = await self.transcribe(said)
        if not text:
            return
        print(f"you: {text}")
        self.messages.append({"role": "user", "content": text})
        answer = ""
        await avatar.begin_speech()
        try:
            async for sentence in self.think():
                print(f"avatar: {sentence}")
                answer = f"{answer} {sentence}".strip()
                async for sound in self.speak(sentence):
                    await avatar.push_speech(sound)
            await avatar.end_speech()
        finally:
            self.messages.append({"role": "assistant", "content": answer})

    async def transcribe(self, said: Pcm) -> str:
        """Sound to text."""
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE_HZ)
            wav.writeframes(said.tobytes())
        answer = await self.client.post(
            f"{self.options.hear_url or self.options.llm_url}/audio/transcriptions",
            data={"model": self.options.hear_model},
            files={"file": ("said.wav", file.getvalue(), "audio/wav")},
        )
        return str(answer.raise_for_status().json()["text"]).strip()

    async def think(self) -> AsyncIterator[str]:
        """The language model's answer, sentence by sentence."""
        order = {"model": self.options.llm_model, "messages": self.messages, "stream": True}
        text = ""
        async with self.client.stream("POST", f"{self.options.llm_url}/chat/completions", json=order) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                choices = json.loads(line.removeprefix("data: "))["choices"]
                text += (choices[0]["delta"].get("content") or "") if choices else ""
                *whole, last = sentences(text) or [text]
                text = text[text.rindex(last) :]
                for sentence in whole:
                    yield sentence
        if text.strip():
            yield text.strip()

    async def speak(self, sentence: str) -> AsyncIterator[Pcm]:
        """Text to sound at 24 kHz, as it comes."""
        options = self.options
        order = {"model": options.speak_model, "voice": options.voice, "input": sentence, "response_format": "pcm"}
        rest = b""
        url = f"{options.speak_url or options.llm_url}/audio/speech"
        async with self.client.stream("POST", url, json=order) as answer:
            answer.raise_for_status()
            async for data in answer.aiter_bytes(9_600):
                data = rest + data
                rest = data[len(data) // 2 * 2 :]
                yield pcm_from_bytes(data[: len(data) // 2 * 2])


async def microphone(options: argparse.Namespace) -> AsyncIterator[Pcm]:
    """Pieces of 40 ms, at the pace of time."""
    if options.input:
        samples = (await asyncio.to_thread(read_audio, options.input) * 32767).astype(np.int16)
        sound = np.concatenate([RateConverter(SAMPLE_RATE_HZ, RATE_HZ).push(samples), np.zeros(2 * RATE_HZ, np.int16)])
        for start in range(0, len(sound), RATE_HZ // 25):
            yield sound[start : start + RATE_HZ // 25]
            await asyncio.sleep(0.04)
        return
    import sounddevice

    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Pcm]()

    def came(data: Pcm, *_: object) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, data[:, 0].copy())

    with sounddevice.InputStream(RATE_HZ, RATE_HZ // 25, channels=1, dtype="int16", callback=came):
        while True:
            yield await pieces.get()


async def listen(avatar: LiveAvatar, loop: Loop) -> None:
    """Send the microphone's sound, and keep it."""
    async for piece in microphone(loop.options):
        loop.heard = np.concatenate([loop.heard, piece])
        await avatar.hear(piece)


async def talk(options: argparse.Namespace) -> list[dict[str, str]]:
    """Talk until interrupted, or until a recording has been answered; what was said."""
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    token = os.environ.get("VIVAVOZ_TOKEN")
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=60))
        avatar = await stack.enter_async_context(
            connect(options.url, portraits=options.portraits, token=token, audio_rate_hz=RATE_HZ)
        )
        show = stack.enter_context(screen(options.output, avatar.session.size_px))
        loop = Loop(options, client)
        listening = asyncio.create_task(listen(avatar, loop))
        answering: asyncio.Task[None] | None = None
        started_ms = 0
        try:
            async for event in avatar:
                if isinstance(event, OutputFrame):
                    show(event)
                elif isinstance(event, SpeechStarted):
                    started_ms = max(0, event.audio_start_ms - BEFORE_MS)
                    if answering is not None:
                        answering.cancel()
                elif isinstance(event, SpeechStopped):
                    said = loop.heard[started_ms * RATE_HZ // 1000 : event.audio_end_ms * RATE_HZ // 1000]
                    answering = asyncio.create_task(loop.answer(avatar, said))
                elif isinstance(event, ErrorEvent):
                    print(event.error.message)
                elif options.input and event.type == "response.done" and event.response.status == "completed":
                    break
                if answering is not None and answering.done() and not answering.cancelled():
                    answering.result()
        finally:
            for task in (listening, answering):
                if task is not None:
                    task.cancel()
        return loop.messages


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(talk(parse()))
