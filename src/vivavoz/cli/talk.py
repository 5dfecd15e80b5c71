"""`vivavoz talk`: talk with an avatar from the terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from vivavoz.errors import ConfigError, ServeError

if TYPE_CHECKING:
    from vivavoz.client import LiveAvatar
    from vivavoz.serve.protocol import OutputFrame

_RATE_HZ = 24_000


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "talk",
        help="talk with an avatar, here or on a server",
        description="Have an avatar speak: a text, a recording, or what is typed. /stop interrupts it, an empty line ends.",
    )
    parser.add_argument("portraits", nargs="+", metavar="PORTRAIT", help="one to three pictures of one person")
    parser.add_argument("--url", help="a server that is running (default: one of its own, in this process)")
    parser.add_argument("--token", help="the server's token (default: VIVAVOZ_TOKEN)")
    parser.add_argument("--say", metavar="TEXT", help="say this, and end")
    parser.add_argument("--speech", metavar="FILE", help="say this recording, and end")
    parser.add_argument("--microphone", action="store_true", help="let the avatar hear you (needs sounddevice)")
    parser.add_argument("-o", "--output", metavar="VIDEO", help="write what is seen and heard to a file, and open no window")
    parser.add_argument("--size", type=int, default=0, metavar="PIXELS", help="side of the video, of a server of its own")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Talk until there is nothing more to say."""
    if options.say is not None and options.speech is not None:
        raise ConfigError("got --say and --speech, expected one of them")
    try:
        asyncio.run(_talk(options))
    except ImportError as error:
        raise ConfigError(f"no {error.name} to talk with; expected it: pip install 'vivavoz[serve]' sounddevice") from error


async def _talk(options: argparse.Namespace) -> None:
    from vivavoz.client import connect
    from vivavoz.serve.protocol import ErrorEvent, OutputFrame, ResponseDone

    with _server(options) as (url, token):
        async with connect(url, portraits=options.portraits, token=token, audio_rate_hz=_RATE_HZ) as avatar:
            done, num_frames = asyncio.Event(), 0
            with screen(options.output, avatar.session.size_px) as show:
                speaking = asyncio.create_task(_speak(options, avatar, done))
                listening = asyncio.create_task(_listen(avatar)) if options.microphone else None
                try:
                    async for event in avatar:
                        if isinstance(event, OutputFrame):
                            show(event)
                            num_frames += 1
                        elif isinstance(event, ResponseDone):
                            done.set()
                        elif isinstance(event, ErrorEvent):
                            raise ServeError(event.error.message)
                        if speaking.done():
                            break
                    speaking.result()
                finally:
                    for task in (speaking, listening):
                        if task is not None:
                            task.cancel()
    if options.output:
        print(f"{options.output}: {num_frames} frames, {num_frames / 25:.2f} s")


async def _speak(options: argparse.Namespace, avatar: LiveAvatar, done: asyncio.Event) -> None:
    """Say what there is to say; returns when it has been said."""
    if options.say is not None:
        await avatar.say(options.say)
        await done.wait()
    elif options.speech is not None:
        await avatar.begin_speech()
        async for piece in _recording(options.speech):
            await avatar.push_speech(piece)
        await avatar.end_speech()
        await done.wait()
    else:
        print("Type what the avatar shall say. /stop interrupts it, an empty line ends.", file=sys.stderr)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await (avatar.interrupt() if line == "/stop" else avatar.say(line))
    await asyncio.sleep(0.4)  # the mouth closes


async def _recording(path: str) -> AsyncIterator[Any]:
    import numpy as np

    from vivavoz.engine.generate import read_speech
    from vivavoz.serve.sound import RateConverter
    from vivavoz.timing import SAMPLE_RATE_HZ

    samples = (await asyncio.to_thread(read_speech, path) * 32767).astype(np.int16)
    converter = RateConverter(SAMPLE_RATE_HZ, _RATE_HZ)
    for start in range(0, len(samples), SAMPLE_RATE_HZ):
        yield converter.push(samples[start : start + SAMPLE_RATE_HZ])
    yield converter.flush()


async def _listen(avatar: LiveAvatar) -> None:
    """Send the microphone's sound."""
    import sounddevice

    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def heard(data: Any, *_: object) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, data[:, 0].copy())

    with sounddevice.InputStream(_RATE_HZ, _RATE_HZ // 25, channels=1, dtype="int16", callback=heard):
        while True:
            await avatar.hear(await pieces.get())


@contextlib.contextmanager
def _server(options: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    """Address and token of the server that was named, or of one that lasts as long as this."""
    if options.url:
        yield options.url, options.token or os.environ.get("VIVAVOZ_TOKEN")
        return
    from vivavoz.engine.weights import load
    from vivavoz.serve.background import in_background
    from vivavoz.serve.settings import ServeSettings

    with in_background(load(), ServeSettings(no_auth=True, port=0, max_sessions=1, size_px=options.size)) as port:
        yield f"http://127.0.0.1:{port}", None


@contextlib.contextmanager
def screen(output: str | None, size_px: int) -> Iterator[Any]:
    """Shows `OutputFrame` events: in the file `output`, or, for None, in a window with sound."""
    from vivavoz.client import picture_of, sound_of

    if output:
        import numpy as np

        from vivavoz.media.video import VideoWriter

        with VideoWriter(output, (size_px, size_px), audio_rate_hz=_RATE_HZ) as writer:

            def write(frame: OutputFrame) -> None:
                writer.write_frame(picture_of(frame))
                writer.write_samples(sound_of(frame).astype(np.float32) / np.float32(32768))

            yield write
        return
    import tkinter

    import sounddevice
    from PIL import Image, ImageTk

    window = tkinter.Tk()
    window.title("vivavoz")
    label = tkinter.Label(window, width=size_px, height=size_px)
    label.pack()
    with sounddevice.OutputStream(_RATE_HZ, channels=1, dtype="int16", latency="low") as speaker:

        def show(frame: OutputFrame) -> None:
            if speaker.write_available >= 960:  # never wait: a full buffer is one moment too early
                speaker.write(sound_of(frame)[:, None])
            label.image = ImageTk.PhotoImage(Image.fromarray(picture_of(frame)))  # type: ignore[attr-defined]
            label.configure(image=label.image)  # type: ignore[attr-defined]
            window.update()

        yield show
    window.destroy()
