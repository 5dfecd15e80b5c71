"""Rows of a pool against lone streams, whatever their neighbours do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.models import images, lively_model, play, portrait, speech, tiniest, tiny_avatar, tiny_model
from tests.streaming import MAX_DIFFERENCE
from vivavoz.engine.avatar import Avatar
from vivavoz.engine.controls import StreamControls
from vivavoz.engine.conversation import Frame
from vivavoz.engine.model import Model
from vivavoz.engine.pool import PooledStream, StreamPool
from vivavoz.engine.stream import Stream
from vivavoz.presets import SamplingConfig, tiny


def batching(model: Model) -> None:
    """Let a model run as many rows at once as there are, also on a CPU."""
    model.runtime = replace(model.runtime, batch_size=lambda num_rows: num_rows)


@dataclass
class Talker:
    """A row and the lone stream it is to equal."""

    avatar: Avatar
    sound: NDArray[np.float32]
    options: dict[str, Any]
    start: int
    """Step at which it joins."""
    chunk_samples: int
    leaves: int = 1_000
    """Step at which it leaves, mid-sentence."""
    pauses: range = range(0)
    """Steps in which it gets no sound."""
    row: PooledStream | None = None
    frames: list[Frame] = field(default_factory=list)

    def step(self, pool: StreamPool, number: int) -> None:
        """Join, push a chunk, leave, as it comes."""
        if number == self.start:
            self.row = pool.open(self.avatar, **self.options)
        if self.row is None or number in self.pauses:
            return
        chunk, self.sound = self.sound[: self.chunk_samples], self.sound[self.chunk_samples :]
        if number >= self.leaves:
            self.row.close()
        elif len(chunk):
            self.row.push(chunk)
        else:
            self.row.flush()

    def lone(self, sound: NDArray[np.float32]) -> list[Frame]:
        """What a stream of its own shows."""
        sampling: SamplingConfig = self.options.get("sampling", self.avatar.model.preset.sampling)
        rest = {name: value for name, value in self.options.items() if name != "sampling"}
        options = {"seed": 0, "sample_rate_hz": 16_000, "num_channels": 1, "controls": None, **rest}
        return play(Stream(self.avatar.model, self.avatar.references, sampling=sampling, **options), sound)


def converse(pool: StreamPool, talkers: list[Talker]) -> None:
    for number in range(1_000):
        for talker in talkers:
            talker.step(pool, number)
        while pool.step():
            pass
        for talker in talkers:
            if talker.row is not None:
                talker.frames += talker.row.take()
        if all(talker.row is not None and talker.row.is_done for talker in talkers):
            return
    raise AssertionError("a row never ended")


def a_mixed_party(model: Model) -> list[Talker]:
    """Rows that differ in everything they may differ in."""
    one, two = model.avatar(portrait(0), crop="none"), model.avatar([portrait(1), portrait(2)], crop="none")
    larger = model.avatar(portrait(3), crop="none", size=128)
    usual = model.preset.sampling
    guided = replace(usual, guidance_audio=2.0, guidance_reference=1.5, block_latents=2)
    return [
        Talker(one, speech(30_000, 1), {"seed": 1}, start=0, chunk_samples=2_560),
        Talker(two, speech(14_000, 2), {"seed": 2, "controls": StreamControls(state="idle")}, start=0, chunk_samples=5_000),
        Talker(one, speech(20_000, 3), {"seed": 3}, start=4, chunk_samples=2_560, pauses=range(6, 9)),
        Talker(one, speech(16_000, 4), {"seed": 4, "controls": StreamControls(expression="sad")}, start=2, chunk_samples=12_800),
        Talker(one, speech(40_000, 5), {"seed": 5}, start=1, chunk_samples=2_560, leaves=9),
        Talker(two, speech(9_000, 6), {"seed": 6, "sampling": guided}, start=1, chunk_samples=640),
        Talker(two, speech(9_000, 7), {"seed": 7, "sampling": guided}, start=3, chunk_samples=1_280),
        Talker(larger, speech(9_000, 8), {"seed": 8, "sample_rate_hz": 24_000}, start=2, chunk_samples=3_000),
    ]


@pytest.fixture(scope="module")
def party() -> Callable[[bool], list[tuple[Talker, list[Frame]]]]:
    """A party's rows, in batches or not, beside what each shows alone."""
    alone: list[list[Frame]] = []

    def hold(together: bool) -> list[tuple[Talker, list[Frame]]]:
        model = lively_model(tiniest())
        if together:
            batching(model)
        talkers = a_mixed_party(model)
        sounds = [talker.sound for talker in talkers]
        converse(StreamPool(model, max_streams=len(talkers)), talkers)
        if not alone:
            alone.extend(talker.lone(sound) for talker, sound in zip(talkers, sounds, strict=True))
        return list(zip(talkers, alone, strict=True))

    return hold


def test_a_row_is_a_lone_stream_to_the_bit_when_rows_take_turns(party: Callable) -> None:
    for talker, expected in party(False):
        assert len(talker.frames) > 4
        if talker.leaves == 1_000:
            assert len(talker.frames) == len(expected)
        for got, want in zip(talker.frames, expected, strict=False):
            assert (got.index, got.time) == (want.index, want.time)
            assert np.array_equal(got.image, want.image)


def test_a_row_of_a_batch_is_a_lone_stream_within_rounding(party: Callable) -> None:
    for talker, expected in party(True):
        got = images(talker.frames).astype(int)
        want = images(expected[: len(got)]).astype(int)
        assert np.abs(got - want).max() <= 1
        assert (got != want).mean() < 1e-3


@pytest.mark.parametrize("warp", [False, True])
def test_latents_and_state_of_a_batch_agree_in_float32(warp: bool) -> None:
    """Guided rows at different places of their windows, in one batch: 1e-5 in everything that stays."""
    avatar = (
        lively_model(tiny(warp=True)).avatar([portrait(0, 160, 160), portrait(1, 160, 160)], crop="none")
        if warp
        else tiny_avatar()
    )
    model = avatar.model
    sounds = [speech(30_000, 1), speech(30_000, 2)[: 640 * 15]]
    runtime = model.runtime
    states = []
    try:
        for together in (False, True):
            if together:
                batching(model)
            pool = StreamPool(model, max_streams=2)
            early = pool.open(avatar, seed=1)
            early.push(sounds[0][:16_000])
            while pool.step():
                pass
            late = pool.open(avatar, seed=2)
            late.push(sounds[1])
            pool.step()  # alone: the others have begun
            early.push(sounds[0][16_000:])
            late.push(speech(30_000, 3))
            while pool.step():
                pass
            assert early.num_latents != late.num_latents
            states.append([*early.state.tensors(), *late.state.tensors()])
    finally:
        model.runtime = runtime
    for one_by_one, batched in zip(*states, strict=True):
        torch.testing.assert_close(batched, one_by_one, rtol=MAX_DIFFERENCE, atol=MAX_DIFFERENCE)


def test_rows_of_a_batch_come_home_each_to_its_own_portrait() -> None:
    preset = tiniest()
    model = lively_model(replace(preset, generator=replace(preset.generator, homing=((1, 1.0), (3, 0.25)))))
    people = [model.avatar(portrait(person), crop="none") for person in (0, 1)]
    sound = speech(30_000)
    alone = [images(play(person.stream(seed=0), sound)).astype(int) for person in people]
    assert np.abs(alone[0] - alone[1]).max() > 50
    batching(model)
    pool = StreamPool(model, max_streams=2)
    streams = [pool.open(person, seed=0) for person in people]
    for stream in streams:
        stream.push(sound)
        stream.flush()
    while pool.step():
        pass
    for stream, want in zip(streams, alone, strict=True):
        assert np.abs(images(stream.take()) - want).max() <= 1


def test_rows_that_are_alike_share_their_calls() -> None:
    model = lively_model(tiniest())
    batching(model)
    sizes: list[int] = []
    inner = model.runtime.velocity

    def velocity(z: torch.Tensor, *arguments: Any) -> torch.Tensor:
        sizes.append(len(z))
        return inner(z, *arguments)

    model.runtime = replace(model.runtime, velocity=velocity)
    avatar, other = model.avatar(portrait(0), crop="none"), model.avatar(portrait(1), crop="none")
    pool = StreamPool(model, max_streams=4)
    rows = [pool.open(avatar, seed=1)]
    rows[0].push(speech(40_000))
    assert pool.step() == 1
    rows += [pool.open(who, seed=seed) for seed, who in enumerate((avatar, other, other))]
    for row in rows[1:]:
        row.push(speech(40_000))
    assert pool.step() == 4  # three begin their video, one goes on
    assert pool.step() == 4  # now all go on, at different places of their windows
    assert sizes == [1, 1, 3, 4]


def test_one_thread_talks_while_another_makes() -> None:
    model = lively_model(tiniest())
    pool = StreamPool(model, max_streams=3)
    avatar = model.avatar(portrait(0), crop="none")
    talkers = [Talker(avatar, speech(20_000, seed), {"seed": seed}, start=0, chunk_samples=320) for seed in range(3)]
    sounds = [talker.sound for talker in talkers]
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            pool.step()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        rows = [pool.open(avatar, **talker.options) for talker in talkers]
        for start in range(0, 20_000, 320):
            for row, sound, talker in zip(rows, sounds, talkers, strict=True):
                row.push(sound[start : start + 320])
                talker.frames += row.take()
        for row in rows:
            row.flush()
        while not all(row.is_done for row in rows):
            for row, talker in zip(rows, talkers, strict=True):
                talker.frames += row.take()
    finally:
        over.set()
        worker.join()
    for talker, sound in zip(talkers, sounds, strict=True):
        assert np.array_equal(images(talker.frames), images(talker.lone(sound)))
        assert [frame.index for frame in talker.frames] == list(range(len(talker.frames)))


def test_the_shared_model_is_not_touched() -> None:
    """Fixtures of other tests share it."""
    assert tiny_model().runtime.batch_size(5) == 1
