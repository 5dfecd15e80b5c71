"""Sound as a stream: any chunking equals the whole, the future never changes the past, rows do not mix, memory stays."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from vivavoz.audio.alignment import LOOKAHEAD_SAMPLES, frames_computable, samples_needed
from vivavoz.audio.encoder import AudioEncoderConfig
from vivavoz.audio.features import AudioFeatures
from vivavoz.audio.mel import MelSpectrogram
from vivavoz.audio.resample import StreamingResampler
from vivavoz.timing import SAMPLES_PER_FRAME

NUM_SAMPLES = 7013
CHUNKINGS: dict[str, list[int]] = {
    "one sample": [1],
    "primes": [2, 3, 5, 7, 211, 401, 997, 1999],
    "mel hops": [200],
    "pictures": [640],
    "whole": [NUM_SAMPLES],
    "nothing now and then": [0, 320, 0, 0, 1601],
    "random": np.random.default_rng(0).integers(0, 1500, 100).tolist(),
}
each_chunking = pytest.mark.parametrize("sizes", CHUNKINGS.values(), ids=CHUNKINGS)


def cut(num_samples: int, sizes: list[int]) -> Iterator[slice]:
    """Slices of the given sizes, over and over, until all samples are covered."""
    start = turn = 0
    while start < num_samples:
        size = sizes[turn % len(sizes)]
        yield slice(start, min(start + size, num_samples))
        start, turn = start + size, turn + 1


def sound(batch_size: int = 2, num_samples: int = NUM_SAMPLES) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(num_samples) / 16000
    samples = 0.3 * torch.sin(2 * torch.pi * 190 * time) + 0.05 * torch.randn(batch_size, num_samples, generator=generator)
    samples[:, 3000:4000] = 0
    return samples


def tiny_features() -> AudioFeatures:
    torch.manual_seed(0)
    return AudioFeatures(AudioEncoderConfig(channels=(4, 4, 8, 8), num_features=8)).eval()


MODULES: dict[str, Callable[[], MelSpectrogram | AudioFeatures]] = {"mel": MelSpectrogram, "features": tiny_features}
each_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


@torch.inference_mode()
def stream(module: MelSpectrogram | AudioFeatures, samples: Tensor, sizes: list[int]) -> Tensor:
    state = module.init_state(samples.shape[0])
    pieces = [module(samples[:, piece], state) for piece in cut(samples.shape[1], sizes)]
    return torch.cat([*pieces, module.flush(state)], dim=1)


@each_chunking
@pytest.mark.parametrize(("rate_hz", "num_channels"), [(8000, 1), (16000, 2), (22050, 1), (44100, 2), (48000, 1)])
def test_resampler_in_any_chunks(rate_hz: int, num_channels: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (NUM_SAMPLES, num_channels)).astype(np.float32)
    whole = StreamingResampler(rate_hz, num_channels)
    offline = np.concatenate([whole.push(samples), whole.flush()])
    resampler = StreamingResampler(rate_hz, num_channels)
    pieces = [resampler.push(samples[piece]) for piece in cut(NUM_SAMPLES, sizes)]
    np.testing.assert_allclose(np.concatenate([*pieces, resampler.flush()]), offline, rtol=0, atol=1e-6)


@each_module
@each_chunking
def test_module_in_any_chunks(make: Callable[[], MelSpectrogram | AudioFeatures], sizes: list[int]) -> None:
    module, samples = make(), sound()
    with torch.inference_mode():
        offline = module(samples)
    torch.testing.assert_close(stream(module, samples, sizes), offline, rtol=0, atol=1e-5)


@each_module
@pytest.mark.parametrize("num_samples", [0, 1, 199, 200, 399, 400, 640, 641, 2599, 2600, 3399, 3400, 3401])
def test_short_sounds_in_any_chunks(make: Callable[[], MelSpectrogram | AudioFeatures], num_samples: int) -> None:
    module, samples = make(), sound(1)[:, :num_samples]
    with torch.inference_mode():
        offline = module(samples)
    for sizes in ([1], [173], [5000]):
        torch.testing.assert_close(stream(module, samples, sizes), offline, rtol=0, atol=1e-5)


@each_chunking
def test_pictures_come_as_early_as_promised(sizes: list[int]) -> None:
    features, samples = tiny_features(), sound(1)
    state = features.init_state(1)
    num_frames = 0
    with torch.inference_mode():
        for piece in cut(NUM_SAMPLES, sizes):
            num_frames += features(samples[:, piece], state).shape[1]
            assert num_frames == frames_computable(piece.stop)
            assert num_frames >= (piece.stop - LOOKAHEAD_SAMPLES) // SAMPLES_PER_FRAME


@torch.inference_mode()
def test_the_future_changes_nothing() -> None:
    features, samples = tiny_features(), sound(1)
    before = features(samples)
    for num_frames in (1, 2, 3, 5, 6):
        needed = samples_needed(num_frames)
        changed = samples.clone()
        changed[:, needed:] = torch.randn(1, NUM_SAMPLES - needed, generator=torch.Generator().manual_seed(1))
        after = features(changed)
        torch.testing.assert_close(after[:, :num_frames], before[:, :num_frames], rtol=0, atol=1e-6)
        # The last few samples needed are nearly hidden by the window, so a click further in must be heard.
        changed = samples.clone()
        changed[:, needed - 200] += 1
        assert (features(changed)[:, num_frames - 1] - before[:, num_frames - 1]).abs().max() > 1e-4


@each_module
@torch.inference_mode()
def test_rows_are_independent(make: Callable[[], MelSpectrogram | AudioFeatures]) -> None:
    module, samples = make(), sound(3)
    together = stream(module, samples, [640])
    for row in range(3):
        torch.testing.assert_close(stream(module, samples[row : row + 1], [640]), together[row : row + 1], rtol=0, atol=1e-5)
    # A row taken over from another stream goes on as that stream does.
    half = NUM_SAMPLES // 2
    mine, theirs = module.init_state(3), module.init_state(1)
    module(samples[:, :half], mine)
    module(samples[:1, :half], theirs)
    mine.copy_row_(2, theirs)
    swapped = torch.cat([samples[:2], samples[:1]])[:, half:]
    rest, expected = module(swapped, mine), module(samples[:1, half:], theirs)
    torch.testing.assert_close(rest[2:], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(rest[0], rest[2], rtol=0, atol=1e-5)


@each_module
@torch.inference_mode()
def test_snapshot_restore_and_reset_are_exact(make: Callable[[], MelSpectrogram | AudioFeatures]) -> None:
    module, samples = make(), sound()
    state = module.init_state(2)
    first = module(samples[:, :3333], state)
    snapshot = state.snapshot()
    rest, end = module(samples[:, 3333:], state), module.flush(state)
    state.restore_(snapshot)
    assert torch.equal(module(samples[:, 3333:], state), rest)
    assert torch.equal(module.flush(state), end)
    state.reset_()
    assert torch.equal(module(samples[:, :3333], state), first)
    assert torch.equal(module(samples[:, 3333:], state), rest)


@each_module
@torch.inference_mode()
def test_memory_stays(make: Callable[[], MelSpectrogram | AudioFeatures]) -> None:
    module = make()
    state = module.init_state(1)
    num_bytes, addresses = state.num_bytes, [tensor.data_ptr() for tensor in state.tensors()]
    for size in [1, 5000, 0, *np.random.default_rng(0).integers(0, 900, 200).tolist()]:
        module(torch.zeros(1, size), state)
        assert state.num_bytes == num_bytes
        assert [tensor.data_ptr() for tensor in state.tensors()] == addresses
    assert num_bytes < 10_000


@torch.inference_mode()
def test_pictures_of_a_long_stream_count_exactly() -> None:
    # The counting is all in integers, so the encoder may be left out.
    features = tiny_features()
    features.encoder = torch.nn.Identity()  # type: ignore[assignment]
    state = features.init_state(1)
    minute = torch.zeros(1, 60 * 16000 + 1)
    num_frames = sum(features(minute, state).shape[1] for _ in range(5)) + features.flush(state).shape[1]
    assert num_frames == -(-5 * (60 * 16000 + 1) // 640)
