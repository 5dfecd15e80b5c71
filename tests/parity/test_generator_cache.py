"""The generator's cached, blockwise inference against its one-pass teacher forcing, and what a stream promises."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from vivavoz.errors import ConfigError
from vivavoz.generator.conditioning import CONTROL_NAMES, Controls, group_audio
from vivavoz.generator.config import GeneratorConfig, tiny_generator_config
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import CacheRead, GeneratorState
from vivavoz.nn.modulation import FlowTimeEmbedding, Modulation

BATCH, CHANNELS, WINDOW, HEIGHT, WIDTH = 2, 64, 8, 2, 3
CONFIG = replace(tiny_generator_config(), window_latents=WINDOW)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def make_generator(config: GeneratorConfig = CONFIG, seed: int = 0) -> Generator:
    """A generator whose every parameter matters (a fresh one starts as zero)."""
    rng = torch.Generator().manual_seed(seed)
    generator = Generator(config).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            noise = torch.randn(parameter.shape, generator=rng)
            parameter.add_(noise * (0.5 if parameter.ndim == 1 else 0.1))
    return generator


class Window:
    """Random inputs of a window of latents."""

    def __init__(self, *, num_references: int = 2, starts_video: bool = True, batch: int = BATCH, seed: int = 1) -> None:
        rng = torch.Generator().manual_seed(seed)
        shape = (batch, CHANNELS, WINDOW, HEIGHT, WIDTH)
        self.noised = torch.randn(shape, generator=rng)
        self.context = torch.randn(shape, generator=rng)
        self.flow_time = torch.rand(batch, generator=rng)
        self.references = torch.randn(batch, CHANNELS, num_references, HEIGHT, WIDTH, generator=rng)
        num_frames = 1 + 4 * (WINDOW - 1) if starts_video else 4 * WINDOW
        self.features = torch.randn(batch, num_frames, CONFIG.audio_features, generator=rng)
        self.audio = group_audio(self.features, starts_video=starts_video)
        self.starts_video = starts_video
        self.controls = Controls(
            state=torch.randint(3, (batch, WINDOW), generator=rng),
            expression=torch.randint(7, (batch, WINDOW), generator=rng),
            expression_intensity=torch.rand(batch, WINDOW, generator=rng),
            gaze=torch.randn(batch, WINDOW, 2, generator=rng),
            head_pose=torch.randn(batch, WINDOW, 3, generator=rng),
        )


def cut(controls: Controls | None, latents: slice) -> Controls | None:
    if controls is None:
        return None
    values = {field.name: getattr(controls, field.name) for field in fields(controls)}
    return Controls(**{name: None if value is None else value[:, latents] for name, value in values.items()})


def mark_started(state: GeneratorState) -> None:
    """As if other windows had gone before this one."""
    for context in state.contexts():
        context.started.fill_(True)
    state.video_latents = 100


@torch.no_grad()
def cached_velocities(
    generator: Generator,
    window: Window,
    *,
    blocks: tuple[int, ...],
    controls: Controls | None,
    reference_mask: Tensor | None = None,
    drop_audio: Tensor | None = None,
    cache_read: CacheRead = CacheRead.MASKED,
) -> tuple[list[Tensor], GeneratorState]:
    """Velocity of each block, the clean window's earlier blocks committed one by one."""
    state = generator.init_state(window.noised.shape[0], (HEIGHT, WIDTH), cache_read=cache_read)
    generator.prefill(window.references, state, reference_mask)
    if not window.starts_video:
        mark_started(state)
    velocities, start = [], 0
    for index, size in enumerate(blocks):
        latents = slice(start, start + size)
        conditions = generator.conditions(
            window.audio[:, latents],
            starts_video=state.starts_video,
            controls=cut(controls, latents),
            drop_audio=drop_audio,
        )
        velocities.append(generator.velocity(window.noised[:, :, latents], conditions, window.flow_time, state))
        if index + 1 < len(blocks):
            generator.commit(window.context[:, :, latents], state, next_block_latents=blocks[index + 1])
        start += size
    return velocities, state


@torch.no_grad()
def one_pass(
    generator: Generator,
    window: Window,
    *,
    blocks: int | tuple[int, ...],
    controls: Controls | None,
    reference_mask: Tensor | None = None,
    drop_audio: Tensor | None = None,
) -> Tensor:
    return generator(
        window.noised,
        window.context,
        window.flow_time,
        window.references,
        window.audio,
        starts_video=window.starts_video,
        reference_mask=reference_mask,
        drop_audio=drop_audio,
        controls=controls,
        blocks=blocks,
    )


def equal_blocks(size: int) -> tuple[int, ...]:
    return (size,) * (WINDOW // size)


def check_parity(generator: Generator, window: Window, blocks: tuple[int, ...], **conditions) -> None:
    parallel = one_pass(generator, window, blocks=blocks, **conditions)
    assert parallel.std() > 0.1
    for cache_read in CacheRead:
        velocities, _ = cached_velocities(generator, window, blocks=blocks, cache_read=cache_read, **conditions)
        for velocity, expected in zip(velocities, parallel.split(blocks, 2), strict=True):
            torch.testing.assert_close(velocity, expected, **TOLERANCE)


@pytest.mark.parametrize("starts_video", [True, False])
@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("num_references", [1, 2, 3])
def test_cached_blocks_equal_one_pass(num_references, block, starts_video):
    window = Window(num_references=num_references, starts_video=starts_video)
    check_parity(make_generator(), window, equal_blocks(block), controls=window.controls)


@pytest.mark.parametrize("starts_video", [True, False])
def test_mixed_blocks_equal_one_pass(starts_video):
    window = Window(starts_video=starts_video)
    check_parity(make_generator(), window, (1, 4, 2, 1), controls=window.controls)


@pytest.mark.parametrize("starts_video", [True, False])
@pytest.mark.parametrize("no_references", [True, False])
@pytest.mark.parametrize("no_audio", [True, False])
def test_null_audio_and_references_equal_one_pass(no_audio, no_references, starts_video):
    window = Window(starts_video=starts_video)
    check_parity(
        make_generator(),
        window,
        equal_blocks(4),
        controls=window.controls,
        drop_audio=torch.full((BATCH,), no_audio),
        reference_mask=torch.full((BATCH, 2), not no_references),
    )


@pytest.mark.parametrize("name", CONTROL_NAMES)
def test_each_null_control_equals_one_pass_and_matters(name):
    window, generator = Window(), make_generator()
    without = replace(window.controls, **{name: None})
    check_parity(generator, window, equal_blocks(4), controls=without)
    present = torch.ones(BATCH, WINDOW, 4, dtype=torch.bool)
    present[:, :, CONTROL_NAMES.index(name)] = False
    masked = replace(window.controls, present=present)
    check_parity(generator, window, equal_blocks(4), controls=masked)
    velocities = [one_pass(generator, window, blocks=4, controls=c) for c in (without, masked, window.controls)]
    torch.testing.assert_close(velocities[0], velocities[1], rtol=0, atol=0)
    assert not torch.allclose(velocities[0], velocities[2], atol=1e-3)


def test_no_controls_at_all_equal_one_pass():
    check_parity(make_generator(), Window(), equal_blocks(4), controls=None)
    without = replace(CONFIG, controls=False)
    check_parity(make_generator(without), Window(), equal_blocks(4), controls=None)
    with pytest.raises(ConfigError, match="controls"):
        one_pass(make_generator(without), Window(), blocks=4, controls=Controls())


def test_windows_of_a_batch_may_start_the_video_or_not():
    generator, starting, later = make_generator(), Window(starts_video=True), Window(starts_video=False)
    mixed = Window(starts_video=False)
    mixed.audio = torch.stack([starting.audio[0], later.audio[1]])
    mixed.starts_video = torch.tensor([True, False])
    velocity = one_pass(generator, mixed, blocks=4, controls=mixed.controls)
    starting.controls = later.controls = mixed.controls
    starting.noised, starting.context, starting.references = mixed.noised, mixed.context, mixed.references
    starting.flow_time = mixed.flow_time
    torch.testing.assert_close(velocity[0], one_pass(generator, starting, blocks=4, controls=mixed.controls)[0], **TOLERANCE)
    torch.testing.assert_close(velocity[1], one_pass(generator, later, blocks=4, controls=mixed.controls)[1], **TOLERANCE)


def test_flow_time_per_latent_equals_one_pass():
    generator, window = make_generator(), Window()
    window.flow_time = torch.rand(BATCH, 2, generator=torch.Generator().manual_seed(2)).repeat_interleave(4, 1)
    parallel = one_pass(generator, window, blocks=4, controls=None)
    window.flow_time = window.flow_time[:, 4:]
    velocities, _ = cached_velocities(generator, window, blocks=(4, 4), controls=None)
    torch.testing.assert_close(velocities[1], parallel[:, :, 4:], **TOLERANCE)


def test_guidance_branches_equal_separate_passes():
    generator, window = make_generator(), Window()
    window.flow_time = torch.full((BATCH,), 0.6)
    _, state = cached_velocities(generator, window, blocks=(4, 4), controls=window.controls)
    conditions = generator.conditions(window.audio[:, 4:], starts_video=False, controls=cut(window.controls, slice(4, None)))
    with torch.no_grad():
        branches = generator.guidance_velocities(window.noised[:, :, 4:], conditions, torch.tensor(0.6), state)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    expected = [
        one_pass(generator, window, blocks=4, controls=window.controls),
        one_pass(generator, window, blocks=4, controls=window.controls, drop_audio=everyone),
        one_pass(generator, window, blocks=4, controls=window.controls, reference_mask=torch.zeros(BATCH, 2, dtype=torch.bool)),
    ]
    for branch, velocity in zip(branches, expected, strict=True):
        torch.testing.assert_close(branch, velocity[:, :, 4:], **TOLERANCE)
    assert not torch.allclose(branches[0], branches[1], atol=1e-2)
    assert not torch.allclose(branches[0], branches[2], atol=1e-2)


def test_null_references_do_not_depend_on_their_number():
    generator, one, three = make_generator(), Window(num_references=1), Window(num_references=3)
    three.noised, three.context, three.flow_time, three.audio = one.noised, one.context, one.flow_time, one.audio
    velocities = [
        one_pass(
            generator,
            window,
            blocks=4,
            controls=None,
            reference_mask=torch.zeros(BATCH, window.references.shape[2], dtype=torch.bool),
        )
        for window in (one, three)
    ]
    torch.testing.assert_close(velocities[0], velocities[1], **TOLERANCE)


def test_references_are_a_set():
    generator, window = make_generator(), Window(num_references=3)
    velocity = one_pass(generator, window, blocks=4, controls=None)
    window.references = window.references[:, :, [2, 0, 1]]
    torch.testing.assert_close(one_pass(generator, window, blocks=4, controls=None), velocity, **TOLERANCE)


def test_rows_with_different_numbers_of_references_equal_separate_runs():
    generator, window = make_generator(), Window(num_references=3, batch=4)
    mask = torch.tensor([[True, False, False], [True, True, False], [False, True, True], [False, False, False]])
    together, _ = cached_velocities(generator, window, blocks=(4, 4), controls=None, reference_mask=mask)
    parallel = one_pass(generator, window, blocks=4, controls=None, reference_mask=mask)
    for row in range(4):
        alone = Window(num_references=3, batch=4)
        for name in ("noised", "context", "flow_time", "references", "audio"):
            setattr(alone, name, getattr(alone, name)[row : row + 1])
        row_mask = None
        if mask[row].any():
            alone.references = alone.references[:, :, mask[row]]
        else:
            row_mask = mask[row : row + 1]
        velocities, _ = cached_velocities(generator, alone, blocks=(4, 4), controls=None, reference_mask=row_mask)
        torch.testing.assert_close(torch.cat(velocities, 2)[0], torch.cat(together, 2)[row], **TOLERANCE)
        torch.testing.assert_close(parallel[row], torch.cat(together, 2)[row], **TOLERANCE)


def test_rows_are_independent():
    generator, window, other = make_generator(), Window(), Window(seed=7)
    before, _ = cached_velocities(generator, window, blocks=(4, 4), controls=None)
    for name in ("noised", "context", "flow_time", "references", "audio"):
        getattr(window, name)[1] = getattr(other, name)[1]
    after, _ = cached_velocities(generator, window, blocks=(4, 4), controls=None)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a[0], b[0], rtol=0, atol=0)
        assert not torch.allclose(a[1], b[1], atol=1e-2)


def test_future_never_changes_the_past():
    generator, window, other = make_generator(), Window(), Window(seed=7)
    before = one_pass(generator, window, blocks=2, controls=None)
    for name in ("noised", "context"):
        getattr(window, name)[:, :, 4:] = getattr(other, name)[:, :, 4:]
    window.audio[:, 4:] = other.audio[:, 4:]
    after = one_pass(generator, window, blocks=2, controls=None)
    torch.testing.assert_close(after[:, :, :4], before[:, :, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, :, 4:], before[:, :, 4:], atol=1e-2)


def test_a_noised_block_does_not_see_its_own_clean_self():
    generator, window, other = make_generator(), Window(), Window(seed=7)
    before = one_pass(generator, window, blocks=4, controls=None)
    window.context[:, :, 4:] = other.context[:, :, 4:]
    torch.testing.assert_close(one_pass(generator, window, blocks=4, controls=None), before, rtol=0, atol=1e-6)
    window.context[:, :, :4] = other.context[:, :, :4]
    after = one_pass(generator, window, blocks=4, controls=None)
    assert not torch.allclose(after[:, :, 4:], before[:, :, 4:], atol=1e-2)


@torch.no_grad()
def test_full_window_hands_its_last_block_on():
    generator, window = make_generator(), Window()
    _, state = cached_velocities(generator, window, blocks=(4, 4), controls=None)
    generator.commit(window.context[:, :, 4:], state)
    assert (state.window_latents, state.video_latents) == (4, 8)
    fresh = generator.init_state(BATCH, (HEIGHT, WIDTH))
    generator.prefill(window.references, fresh)
    mark_started(fresh)
    generator.commit(window.context[:, :, 4:], fresh)
    conditions = generator.conditions(window.audio[:, 4:], starts_video=False)
    velocities = [generator.velocity(window.noised[:, :, :4], conditions, window.flow_time, s) for s in (state, fresh)]
    torch.testing.assert_close(velocities[0], velocities[1], rtol=0, atol=0)
    # Teacher forcing of a later window that begins with that block says the same.
    later = Window(starts_video=False)
    later.context[:, :, :4] = window.context[:, :, 4:]
    later.noised[:, :, 4:] = window.noised[:, :, :4]
    later.audio[:, 4:] = window.audio[:, 4:]
    torch.testing.assert_close(one_pass(generator, later, blocks=4, controls=None)[:, :, 4:], velocities[0], **TOLERANCE)


@torch.no_grad()
def test_small_blocks_fill_the_window_and_too_large_ones_are_refused():
    generator, window = make_generator(), Window()
    state = generator.init_state(BATCH, (HEIGHT, WIDTH))
    generator.prefill(window.references, state)
    filled = []
    for latent in range(WINDOW + 2):
        generator.commit(window.context[:, :, [latent % WINDOW]], state, next_block_latents=1)
        filled.append(state.window_latents)
    assert filled == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]
    with pytest.raises(ConfigError, match="next_block_latents"):
        generator.commit(window.context[:, :, :6], state)


@torch.no_grad()
def run_stream(generator: Generator, state: GeneratorState, num_blocks: int, seed: int = 3) -> Tensor:
    """Generate with one Euler step per block; the blocks, one after the other."""
    rng = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(num_blocks):
        audio = torch.randn(BATCH, 4, 4, CONFIG.audio_features, generator=rng)
        z = torch.randn(BATCH, CHANNELS, 4, HEIGHT, WIDTH, generator=rng)
        conditions = generator.conditions(audio, starts_video=state.starts_video)
        z = z - sum(generator.guidance_velocities(z, conditions, torch.tensor(1.0), state)) / 3
        generator.commit(z, state)
        blocks.append(z)
    return torch.cat(blocks, 2)


@pytest.fixture
def stream() -> tuple[Generator, GeneratorState]:
    generator, window = make_generator(), Window()
    state = generator.init_state(BATCH, (HEIGHT, WIDTH))
    generator.prefill(window.references, state)
    return generator, state


def test_reset_is_bit_exact(stream):
    generator, state = stream
    first = run_stream(generator, state, 5)
    state.reset_()
    generator.prefill(Window().references, state)
    torch.testing.assert_close(run_stream(generator, state, 5), first, rtol=0, atol=0)
    state.restart_()
    torch.testing.assert_close(run_stream(generator, state, 5), first, rtol=0, atol=0)


def test_snapshot_and_restore_are_bit_exact(stream):
    generator, state = stream
    run_stream(generator, state, 4)
    snapshot = state.snapshot()
    first = run_stream(generator, state, 3, seed=4)
    state.restore_(snapshot)
    torch.testing.assert_close(run_stream(generator, state, 3, seed=4), first, rtol=0, atol=0)
    torch.testing.assert_close(run_stream(generator, snapshot, 3, seed=4), first, rtol=0, atol=0)


def test_memory_is_constant_and_written_in_place(stream):
    generator, state = stream
    size, places = state.num_bytes, [tensor.data_ptr() for tensor in state.tensors()]
    run_stream(generator, state, 50)
    assert state.num_bytes == size
    assert [tensor.data_ptr() for tensor in state.tensors()] == places


def test_denoising_only_reads_the_state(stream):
    generator, state = stream
    run_stream(generator, state, 1)
    before = state.snapshot()
    window = Window()
    conditions = generator.conditions(window.audio[:, 4:], starts_video=False)
    with torch.no_grad():
        generator.velocity(window.noised[:, :, :4], conditions, window.flow_time, state)
        generator.guidance_velocities(window.noised[:, :, :4], conditions, torch.tensor(0.5), state)
    for mine, theirs in zip(state.tensors(), before.tensors(), strict=True):
        assert torch.equal(mine, theirs)


@torch.no_grad()
def test_modulations_made_before_give_the_same_to_the_bit_without_making_them_again(stream):
    generator, state = stream
    run_stream(generator, state, 1)
    other, window, z = state.snapshot(), Window(), Window().noised[:, :, :4]
    conditions = generator.conditions(window.audio[:, 4:], starts_video=False)
    times = torch.tensor([0.7, 0.0])
    expected = [generator.velocity(z, conditions, times[0], state)]
    expected += generator.guidance_velocities(z, conditions, times[0], state)
    generator.write_context(z, state)

    noised, clean = generator.modulations(times)

    def refuse(*_):
        raise AssertionError("made again")

    for module in generator.modules():
        if isinstance(module, FlowTimeEmbedding | Modulation):
            module.register_forward_pre_hook(refuse)
    got = [generator.velocity(z, conditions, noised, other), *generator.guidance_velocities(z, conditions, noised, other)]
    generator.write_context(z, other, clean)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(got, expected, strict=True))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(other.tensors(), state.tensors(), strict=True))


@torch.no_grad()
def test_rows_may_stand_at_different_places_of_their_windows(stream):
    generator, state = stream
    run_stream(generator, state, 1)
    late = state.snapshot()
    generator.write_context(Window().context[:, :, :2], late)
    mixed = state.snapshot()
    mixed.copy_row_(1, late, 1)
    window = Window()
    conditions = generator.conditions(window.audio[:, 4:], starts_video=False)
    velocities = [generator.velocity(window.noised[:, :, :4], conditions, window.flow_time, s) for s in (state, late, mixed)]
    torch.testing.assert_close(velocities[2][0], velocities[0][0], **TOLERANCE)
    torch.testing.assert_close(velocities[2][1], velocities[1][1], **TOLERANCE)
    generator.write_context(window.context[:, :, 2:4], mixed)
    generator.write_context(window.context[:, :, 2:4], late)
    assert mixed.full.filled_latents.tolist() == [6, 8]
    torch.testing.assert_close(mixed.full.cache.keys[1], late.full.cache.keys[1], **TOLERANCE)


@torch.no_grad()
def test_compiled_steps_compile_once_and_equal_eager(stream):
    generator, state = stream
    eager_state = state.snapshot()
    rng = torch.Generator().manual_seed(5)
    torch._dynamo.reset()
    velocity = torch.compile(generator.guidance_velocities, fullgraph=True, dynamic=False, backend="eager")
    write = torch.compile(generator.write_context, fullgraph=True, dynamic=False, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(5):
            z = torch.randn(BATCH, CHANNELS, 4, HEIGHT, WIDTH, generator=rng)
            conditions = torch.randn(BATCH, 4, CONFIG.condition_channels, generator=rng)
            for flow_time in (torch.tensor(1.0), torch.tensor(0.4)):
                expected = generator.guidance_velocities(z, conditions, flow_time, eager_state)
                for got, want in zip(velocity(z, conditions, flow_time, state), expected, strict=True):
                    torch.testing.assert_close(got, want, **TOLERANCE)
            generator.commit(z, state, write=write)
            generator.commit(z, eager_state)
    assert state.window_latents == eager_state.window_latents == 4
    torch._dynamo.reset()
