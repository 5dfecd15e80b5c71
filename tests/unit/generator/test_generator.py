import pytest
import torch

from vivavoz.errors import ConfigError
from vivavoz.generator.conditioning import Controls, group_audio
from vivavoz.generator.config import tiny_generator_config
from vivavoz.generator.generator import Generator

CONFIG = tiny_generator_config()


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(CONFIG)


def make_inputs(num_latents: int = 8) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    shape = (2, CONFIG.latent_channels, num_latents, 2, 2)
    return {
        "noised": torch.randn(shape, generator=rng),
        "context": torch.randn(shape, generator=rng),
        "flow_time": torch.rand(2, generator=rng),
        "references": torch.randn(2, CONFIG.latent_channels, 3, 2, 2, generator=rng),
        "audio": group_audio(torch.randn(2, 4 * num_latents - 3, CONFIG.audio_features, generator=rng), starts_video=True),
    }


def test_fresh_generator_predicts_no_velocity(generator):
    inputs = make_inputs()
    velocity = generator(**inputs, starts_video=True)
    assert velocity.shape == inputs["noised"].shape
    assert not velocity.any()


def test_training_reaches_every_parameter_and_lowers_the_loss(generator):
    inputs, target = make_inputs(), torch.randn(2, CONFIG.latent_channels, 8, 2, 2, generator=torch.Generator().manual_seed(2))
    conditions = {
        "starts_video": torch.tensor([True, False]),
        "reference_mask": torch.tensor([[True, True, False], [False, False, False]]),
        "controls": Controls(
            state=torch.zeros(2, 8, dtype=torch.int64),
            expression=torch.ones(2, 8, dtype=torch.int64),
            gaze=torch.ones(2, 8, 2),
            head_pose=torch.ones(2, 8, 3),
            present=(torch.arange(16).reshape(2, 8, 1) % 2 == 0).expand(2, 8, 4),
        ),
    }
    optimizer = torch.optim.Adam(generator.parameters(), 3e-3)
    losses, touched = [], set()
    for step in range(12):
        drop_audio = torch.tensor([step % 2 == 0, False])
        loss = (generator(**inputs, **conditions, drop_audio=drop_audio) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        touched |= {
            name for name, parameter in generator.named_parameters() if parameter.grad is not None and parameter.grad.any()
        }
    assert losses[-1] < 0.95 * losses[0]
    assert touched == {name for name, _ in generator.named_parameters()}


def test_low_precision_weights_stay_close(generator):
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    inputs = make_inputs()
    with torch.no_grad():
        expected = generator(**inputs, starts_video=True)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = generator(**inputs, starts_video=True)
        low = generator.bfloat16()(**inputs, starts_video=True)
    assert low.dtype == torch.float32
    scale = expected.std()
    assert (low - expected).abs().mean() < 0.05 * scale
    assert (mixed - expected).abs().mean() < 0.05 * scale


@torch.no_grad()
def test_low_precision_stream(generator):
    generator.bfloat16()
    inputs = make_inputs()
    state = generator.init_state(2, (2, 2))
    assert state.full.cache.keys.dtype == torch.bfloat16
    generator.prefill(inputs["references"], state)
    generator.commit(inputs["context"][:, :, :4], state)
    conditions = generator.conditions(inputs["audio"][:, 4:], starts_video=False)
    velocity = generator.velocity(inputs["noised"][:, :, 4:], conditions, torch.tensor(0.5), state)
    assert velocity.dtype == torch.float32
    assert velocity.isfinite().all()


def test_references_beyond_the_slots_are_refused(generator):
    with pytest.raises(ConfigError, match="reference slots"):
        generator.init_state(2, (2, 2), num_references=4)
    state = generator.init_state(2, (2, 2), num_references=2)
    with pytest.raises(ConfigError, match="3 references"):
        generator.prefill(make_inputs()["references"], state)


@torch.no_grad()
def test_null_audio_replaces_only_the_audio(generator):
    audio = make_inputs()["audio"]
    controls = Controls(state=torch.ones(2, 8, dtype=torch.int64))
    conditions = generator.conditions(audio, starts_video=True, controls=controls)
    dropped = generator.conditions(audio, starts_video=True, controls=controls, drop_audio=torch.ones(2, dtype=torch.bool))
    assert torch.equal(generator.without_audio(conditions), dropped)
    assert not torch.equal(conditions, dropped)


@torch.no_grad()
def test_state_without_guidance_holds_one_context(generator):
    lean, guided = (generator.init_state(1, (2, 2), num_references=1, guidance=guidance) for guidance in (False, True))
    assert lean.no_reference is None
    assert 2 * lean.num_bytes == guided.num_bytes
    with pytest.raises(ConfigError, match="guidance"):
        generator.guidance_velocities(torch.zeros(1, 64, 4, 2, 2), torch.zeros(1, 4, 1), torch.tensor(1.0), lean)
    lean.restore_(lean.snapshot())
    assert lean.starts_video
