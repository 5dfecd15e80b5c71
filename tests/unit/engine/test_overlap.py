"""Blocks of which the next one is made while this one is drawn: the same pictures as in turn, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import cut, images, lively_model, picturewise, play, portrait, speech, tiniest, tiniest_avatar
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.conversation import Conversation, Frame
from vivavoz.engine.model import Model
from vivavoz.engine.pool import PooledStream, StreamPool
from vivavoz.engine.stream import Stream
from vivavoz.presets import tiny
from vivavoz.timing import SAMPLES_PER_FRAME

WAIT_S = 20.0
"""How long one half waits for the other before it is taken that it does not come."""
WINDOW_S = 4 * 16 * SAMPLES_PER_FRAME / 16_000

Action = Callable[[Stream], object]


def own_avatar() -> Avatar:
    """With a model that a test may change."""
    return lively_model(tiniest()).avatar(portrait(0), crop="none")


def told(frames: Iterable[Frame]) -> list[tuple[Any, ...]]:
    return [(frame.index, frame.time, frame.image.tobytes()) for frame in frames]


@pytest.mark.parametrize("block_latents", [1, 2, 4])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_pictures_are_the_same_to_the_bit(block_latents: int, guidance: float) -> None:
    options = {"block_latents": block_latents, "guidance_audio": guidance, "guidance_reference": guidance}
    sound = speech(int(1.4 * WINDOW_S * 16_000) + 77)
    expected = told(play(tiniest_avatar().stream(**options), sound))
    assert told(play(tiniest_avatar().stream(**options, overlap=True), sound)) == expected
    assert told(play(tiniest_avatar().stream(**options, overlap=True), sound, 4_099)) == expected


@pytest.mark.parametrize("num_samples", [0, 1, 640, 13 * 640 - 1, 13 * 640 + 1, 29 * 640, 30_000])
def test_no_block_is_made_that_nobody_sees(num_samples: int) -> None:
    counts = []
    for overlap in (False, True):
        avatar, num_made = own_avatar(), [0]
        velocity = avatar.model.runtime.velocity

        def counted(*arguments: Any, num_made: list[int] = num_made, velocity: Any = velocity) -> torch.Tensor:
            num_made[0] += 1
            return velocity(*arguments)

        avatar.model.runtime = replace(avatar.model.runtime, velocity=counted)
        num_frames = len(play(avatar.stream(overlap=overlap), speech(num_samples)))
        counts.append((num_frames, num_made[0]))
    assert counts[0] == counts[1]


def test_the_next_block_is_begun_before_this_one_is_drawn() -> None:
    """Whoever draws a block waits until the generator is at work on the next: in turn, that would never be."""
    avatar = own_avatar()
    plain, changed = avatar.model.runtime, threading.Condition()
    num_begun, num_drawn = [0], [0]

    def velocity(*arguments: Any) -> torch.Tensor:
        with changed:
            num_begun[0] += 1
            changed.notify_all()
        return plain.velocity(*arguments)

    def decode(*arguments: Any) -> Iterable[torch.Tensor]:
        num_drawn[0] += 1
        with changed:
            assert changed.wait_for(lambda: num_begun[0] > num_drawn[0], WAIT_S), "the next block was not begun"
        return plain.decode(*arguments)

    avatar.model.runtime = replace(plain, velocity=velocity, decode_first=decode, decode=decode)
    with avatar.stream(overlap=True) as stream:
        frames = stream.push(speech(640 * 4 * 14))
        assert [next(frames).index for _ in range(13 + 16)] == list(range(29))
    assert (num_begun, num_drawn) == ([3], [2])


def followed(stream: Stream, actions: Mapping[int, Action]) -> list[tuple[Any, ...]]:
    """What a reader sees who does something after some of the pictures."""
    seen: list[Frame] = []
    results: list[Any] = []
    with stream:
        stream.push(speech(31_000))
        for ended in (False, True):
            for frame in stream.flush() if ended else stream.push(speech(0)):
                seen.append(frame)
                if len(seen) in actions:
                    results.append(actions[len(seen)](stream))
    return [*told(seen), *results]


def listen(stream: Stream) -> None:
    stream.set(state="listening", expression="sad")


def listen_and_think_better_of_it(stream: Stream) -> None:
    before = stream.controls
    stream.set(state="listening")
    stream.controls = before


def interrupt_and_say_more(stream: Stream) -> object:
    dropped = stream.interrupt()
    stream.push(speech(14_000, 5))
    return dropped


def interrupt_and_end(stream: Stream) -> object:
    return stream.interrupt(), list(stream.flush())


def push(stream: Stream) -> None:
    stream.push(speech(5_555, 6))


def use_more_steps(stream: Stream) -> None:
    stream.use(num_steps=2, block_latents=stream.sampling.block_latents)


@pytest.mark.parametrize("block_latents", [1, 2, 4])
@pytest.mark.parametrize("after", [1, 3, 13, 14, 29])
@pytest.mark.parametrize(
    "action",
    [listen, listen_and_think_better_of_it, interrupt_and_say_more, interrupt_and_end, push, use_more_steps],
    ids=lambda action: action.__name__,
)
def test_what_the_reader_does_meanwhile_has_the_same_effect(block_latents: int, after: int, action: Action) -> None:
    """The block that was made ahead is made anew where it would have come out differently."""
    expected, got = (
        followed(tiniest_avatar().stream(block_latents=block_latents, overlap=overlap), {after: action})
        for overlap in (False, True)
    )
    assert got == expected


def test_one_thing_after_another_has_the_same_effect() -> None:
    actions = {2: listen, 9: interrupt_and_say_more, 11: use_more_steps, 20: interrupt_and_say_more, 21: listen, 30: push}
    expected, got = (followed(tiniest_avatar().stream(block_latents=1, overlap=overlap), actions) for overlap in (False, True))
    assert got == expected
    assert len(got) > 50


def test_a_stream_closed_in_the_middle_gives_no_more_and_its_thread_ends() -> None:
    others = set(threading.enumerate())
    stream = tiniest_avatar().stream(overlap=True)
    frames = stream.push(speech(40_000))
    next(frames)
    (thread,) = (thread for thread in threading.enumerate() if thread.name.startswith("vivavoz-overlap") and thread not in others)
    stream.close()
    assert list(frames) == []
    thread.join(WAIT_S)
    assert not thread.is_alive()


class Odd(Exception):
    pass


def failing(step: Callable[..., Any], after: int) -> Callable[..., Any]:
    """`step`, the first calls of which work."""
    count = [0]

    def run(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] > after:
            raise Odd(f"call {count[0]}")
        return step(*arguments)

    return run


@pytest.mark.parametrize("what", ["velocity", "write_context", "decode"])
def test_errors_reach_the_reader_after_the_pictures_before_them(what: str) -> None:
    lengths = []
    for overlap in (False, True):
        avatar = own_avatar()
        runtime = avatar.model.runtime
        avatar.model.runtime = replace(runtime, **{what: failing(getattr(runtime, what), 2)})
        frames: list[Frame] = []
        with avatar.stream(overlap=overlap) as stream, pytest.raises(Odd, match="call 3"):
            frames.extend(stream.push(speech(640 * 4 * 30)))
        lengths.append(len(frames))
    assert lengths[0] == lengths[1] > 12


def stepped(pool: StreamPool) -> None:
    while pool.step():
        pass


@pytest.mark.parametrize("is_batch", [False, True])
def test_rows_of_a_pool_show_what_they_show_in_turn(is_batch: bool) -> None:
    model = lively_model(tiniest())
    if is_batch:
        model.runtime = replace(model.runtime, batch_size=lambda num_rows: num_rows)
    avatars = [model.avatar(portrait(seed), crop="none") for seed in range(3)]
    results = []
    for overlap in (False, True):
        pool = StreamPool(model, max_streams=3, overlap=overlap)
        streams = [pool.open(avatar, seed=seed) for seed, avatar in enumerate(avatars)]
        for seed, stream in enumerate(streams):
            stream.push(speech(15_000 + 9_000 * seed, seed))
        pool.step()
        streams[1].interrupt()
        streams[1].push(speech(20_000, 7))
        streams[2].set(state="listening")
        streams[0].flush()
        stepped(pool)
        for stream in streams:
            stream.flush()
        stepped(pool)
        results.append([stream.take() for stream in streams])
        assert all(stream.is_done for stream in streams)
        pool.close()
    for plain, overlapped in zip(*results, strict=True):
        assert [(frame.index, frame.time) for frame in overlapped] == [(frame.index, frame.time) for frame in plain]
        difference = np.abs(images(overlapped).astype(int) - images(plain))
        assert difference.max() <= (1 if is_batch else 0)


def overlapping_pool(model: Model) -> tuple[StreamPool, PooledStream]:
    pool = StreamPool(model, max_streams=1, overlap=True)
    return pool, pool.open(model.avatar(portrait(), crop="none"), sampling=replace(model.preset.sampling, block_latents=2))


def test_an_interruption_while_a_block_is_drawn_drops_it_though_the_generator_hears_the_new_sound_already() -> None:
    model = lively_model(tiniest())
    plain = model.runtime
    is_interrupted, is_heard = threading.Event(), threading.Event()
    num_written, dropped = [0], []

    def write_context(*arguments: Any) -> None:
        num_written[0] += 1
        if num_written[0] == 2:  # beside the second block's drawing
            assert is_interrupted.wait(WAIT_S)
        plain.write_context(*arguments)

    def decode(*arguments: Any) -> Iterable[torch.Tensor]:
        if not dropped:
            dropped.append(stream.interrupt())
            stream.push(speech(20_000, 3))
            is_interrupted.set()
            assert is_heard.wait(WAIT_S)
        return plain.decode(*arguments)

    def hear(features: torch.Tensor) -> None:
        Conversation.hear(stream, features)
        if stream.utterance == 1:
            is_heard.set()

    model.runtime = replace(plain, decode=decode, write_context=write_context)
    pool, stream = overlapping_pool(model)
    stream.hear = hear  # type: ignore[method-assign]
    stream.push(speech(11_000))
    assert pool.step() == 1
    assert len(stream.take()) == 5
    assert pool.step() == 1
    assert stream.take() == [], "the block's sound was dropped"
    stepped(pool)
    frames = stream.take()
    assert [frame.time for frame in frames] == [dropped[0].time + i * frame.duration for i, frame in enumerate(frames)]
    assert len(frames) > 20


def test_a_row_closed_while_its_block_is_drawn_ends_quietly() -> None:
    pool, stream = overlapping_pool(lively_model(tiniest()))
    stream.on_pictures = stream.close
    stream.push(speech(30_000))
    assert pool.step() == 1
    assert stream.take() == []
    assert pool.step() == 0
    assert len(pool) == 0


@pytest.mark.parametrize("make_preset", [lambda: tiny(warp=True), picturewise])
def test_the_cpu_runtime_overlaps_too(make_preset: Callable[[], Any]) -> None:
    model = lively_model(make_preset())
    model.use_runtime("cpu")
    avatar = model.avatar(portrait(), crop="none")
    expected, got = (
        followed(avatar.stream(block_latents=2, overlap=overlap), {8: interrupt_and_say_more}) for overlap in (False, True)
    )
    assert got == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["eager", "cuda-graphs"])
@pytest.mark.parametrize("warp", [False, True])
def test_on_a_gpu_pictures_are_those_made_in_turn(name: str, warp: bool) -> None:
    """Streams of the two kinds in turn, and memory taken and let go of between pictures: whatever one side overwrites, shows."""
    model = lively_model(tiny(warp=warp)).to("cuda")
    model.use_runtime(name)
    avatar = model.avatar([portrait(0), portrait(1)], crop="none")
    sound = speech(640 * 4 * 3 * model.preset.generator.window_latents)
    expected = images(play(avatar.stream(), sound)).astype(int)
    for _ in range(5):
        with avatar.stream(overlap=True) as one, avatar.stream() as other, avatar.stream(overlap=True) as third:
            frames: dict[Stream, list[Frame]] = {one: [], other: [], third: []}
            for chunk in cut(sound, 640 * 4 * 20):
                for stream, seen in frames.items():
                    for frame in stream.push(chunk):
                        seen.append(frame)
                        torch.full((1 << 20,), float("nan"), device="cuda")
            for stream, seen in frames.items():
                seen += stream.flush()
        for seen in frames.values():
            got = images(seen).astype(int)
            assert np.abs(got - expected).max() <= 2
            assert (got != expected).mean() < 0.02
