import pytest
import torch

from tests.models import lively_model, tiniest
from vivavoz.presets import tiny
from vivavoz.train.memory import checkpoint_blocks, compile_blocks, repeated_blocks


def video_loss(vae):
    torch.manual_seed(0)
    pictures = torch.rand(1, 2, 3, 64, 64) * 2 - 1
    video = torch.rand(1, 3, 5, 64, 64) * 2 - 1
    return (vae.decode(vae.encode(video).mean, vae.encode_references(pictures)) - video).square().mean()


def velocity_loss(generator):
    torch.manual_seed(0)
    z, references = torch.randn(1, 8, 4, 1, 1), torch.randn(1, 8, 2, 1, 1)
    return generator(z, z, torch.rand(1), references, torch.rand(1, 4, 4, 16), starts_video=True).square().mean()


CASES = [(lambda model: model.vae, video_loss), (lambda model: model.generator, velocity_loss)]


def gradients(part, loss):
    loss(part).backward()
    return {name: parameter.grad for name, parameter in part.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("part", "loss"), CASES)
def test_checkpointing_keeps_less_and_changes_nothing(part, loss):
    plain, spared = part(lively_model(tiny())), part(lively_model(tiny()))
    checkpoint_blocks(spared)
    kept = []
    for module in (plain, spared):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            loss(module)
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]
    expected, found = gradients(plain, loss), gradients(spared, loss)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert plain.state_dict().keys() == spared.state_dict().keys()


@pytest.mark.parametrize(("part", "loss"), CASES[1:])
def test_compiling_changes_nothing_to_rounding(part, loss):
    plain, compiled = part(lively_model(tiniest())), part(lively_model(tiniest()))
    assert list(repeated_blocks(plain))
    compile_blocks(compiled, backend="aot_eager")
    checkpoint_blocks(compiled)
    expected, found = gradients(plain, loss), gradients(compiled, loss)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)
