"""Small parts of the server: rates, limits, files of fragments, addresses of ICE servers."""

from __future__ import annotations

import asyncio
import io
from itertools import pairwise

import av
import numpy as np
import pytest
from aiortc.codecs.opus import OpusEncoder

from tests.serving import tone
from vivavoz.errors import AudioError, ConfigError, RateLimitError
from vivavoz.serve.access import RateLimit
from vivavoz.serve.fragmented import FragmentedMP4
from vivavoz.serve.moments import Moment
from vivavoz.serve.sound import SAMPLES_PER_MOMENT, SOUND_RATE_HZ, RateConverter, pcm_from_bytes
from vivavoz.serve.webrtc import MomentTrack, ice_link, parse_ice_servers


def moment(index: int) -> Moment:
    image = np.full((64, 64, 3), index * 3 % 256, np.uint8)
    sound = tone(60)[index * SAMPLES_PER_MOMENT : (index + 1) * SAMPLES_PER_MOMENT]
    return Moment(index=index, image=image, sound=sound, state="idle", is_repeat=False)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_any_rate_becomes_that_of_the_session(rate_hz: int) -> None:
    converter = RateConverter(rate_hz)
    sound = tone(2.0, rate_hz)
    pieces = [converter.push(piece) for piece in np.array_split(sound, 77)]
    out = np.concatenate([*pieces, converter.flush()])
    assert len(out) == pytest.approx(2 * SOUND_RATE_HZ, abs=SOUND_RATE_HZ // 500)
    middle = out[SOUND_RATE_HZ // 2 : 3 * SOUND_RATE_HZ // 2].astype(float)
    strongest = np.argmax(np.abs(np.fft.rfft(middle)))
    assert strongest == 220  # one second: bins are hertz


def test_half_a_sample_and_odd_rates_are_refused() -> None:
    with pytest.raises(AudioError):
        pcm_from_bytes(b"abc")
    with pytest.raises(AudioError):
        RateConverter(100)


def test_an_address_may_ask_so_often_within_a_minute_and_others_do_not_count() -> None:
    now_s = [0.0]
    limit = RateLimit(2, clock=lambda: now_s[0])
    limit.count("a")
    limit.count("a")
    limit.count("b")
    with pytest.raises(RateLimitError):
        limit.count("a")
    now_s[0] = 60.1
    limit.count("a")


def test_fragments_come_soon_and_times_are_those_of_the_moments() -> None:
    writer = FragmentedMP4(64)
    pieces = [writer.encode([moment(index)]) for index in range(7, 40)]
    assert sum(len(piece) > 0 for piece in pieces[:12]) >= 3  # a fragment every three pictures
    data = b"".join(pieces) + writer.close()
    with av.open(io.BytesIO(data)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index * 0.04 for index in range(33)])
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    # AAC's priming lies before the start; what is heard begins with the first picture.
    assert abs(float(frames[0].time)) <= 1024 / SOUND_RATE_HZ
    assert abs(float(frames[-1].time) + frames[-1].samples / SOUND_RATE_HZ - 33 * 0.04) < 0.1


def test_a_gap_in_the_moments_is_a_gap_in_the_times_and_goes_on_with_a_keyframe() -> None:
    writer = FragmentedMP4(64)
    first = writer.encode([moment(index) for index in range(10)])
    second = writer.encode([moment(index) for index in range(60, 75)])
    data = first + second + writer.close()
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    times = [float(packet.pts * packet.time_base) for packet in packets]
    assert times[10] - times[9] == pytest.approx(51 * 0.04)
    assert packets[10].is_keyframe
    with av.open(io.BytesIO(data)) as container:
        sound = [float(frame.time) for frame in container.decode(audio=0)]
    assert max(b - a for a, b in pairwise(sound)) > 1.5  # sound keeps its place too


def test_ice_servers_are_read_and_nonsense_is_refused_without_its_password() -> None:
    stun, turn = parse_ice_servers("stun:stun.test:3478, turn:anna:p%40ss@turn.test:3478")
    assert (stun.urls, stun.username) == ("stun:stun.test:3478", None)
    assert (turn.urls, turn.username, turn.credential) == ("turn:turn.test:3478", "anna", "p@ss")
    assert ice_link(stun) == '<stun:stun.test:3478>; rel="ice-server"'
    assert 'username="anna"; credential="p%40ss"' in ice_link(turn)
    assert parse_ice_servers("") == []
    with pytest.raises(ConfigError) as caught:
        parse_ice_servers("http:anna:secret@turn.test")
    assert "secret" not in str(caught.value)


def test_the_sound_track_is_real_time_for_opus_and_loses_nothing() -> None:
    async def packets() -> list[tuple[int, int]]:
        track, encoder = MomentTrack("audio"), OpusEncoder()
        for index in range(20):
            track.show(moment(index))
        return [(len(payloads), at) for payloads, at in [encoder.encode(await track.recv()) for _ in range(40)] if payloads]

    sent = asyncio.run(packets())
    assert sum(number for number, _ in sent) >= 39  # 20 ms each; the resampler's filter may hold one back
    assert all(b - a == 960 for (_, a), (_, b) in pairwise(sent))


def test_a_track_that_nobody_reads_keeps_the_newest_second() -> None:
    async def show() -> tuple[int, int]:
        track = MomentTrack("video")
        return sum(track.show(moment(index)) for index in range(60)), len(track.waiting)

    num_dropped, num_waiting = asyncio.run(show())
    assert num_dropped + num_waiting == 60
    assert num_waiting <= 25
