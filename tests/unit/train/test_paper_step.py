"""One optimizer step of each model of the paper's size, on a GPU; `pytest -m gpu -s` prints model FLOP utilisation."""

import time
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vivavoz.train.loop import LoopConfig, Step, train
from vivavoz.train.memory import checkpoint_blocks, compile_blocks
from vivavoz.train.memory_plan import latent_step, shapes_only, video_step
from vivavoz.train.paper_recipes import paper_generator_recipe, paper_vae_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DENSE_BF16_FLOPS = 989e12
"""Of an H100 or H200, a second."""
WINDOWS = 4


def train_flop(step):
    """Arithmetic of a step with one window, without what checkpointing repeats."""
    make, batch = step
    with shapes_only(), FlopCounterMode(display=False) as counter:
        sum(make()(batch(1), Step(0, 0.0, torch.Generator())).values()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["vae", "generator"])
def test_a_step_at_paper_size(tmp_path, name):
    recipe = paper_vae_recipe() if name == "vae" else paper_generator_recipe()
    step = video_step(recipe, recipe.phases[0]) if name == "vae" else latent_step(recipe)
    flop = WINDOWS * train_flop(step)
    make, batch = step
    torch.manual_seed(0)
    objective = make()
    compile_blocks(objective)
    checkpoint_blocks(objective)
    objective.cuda()
    before = {key: value.clone() for key, value in objective.state_dict().items() if value.is_floating_point()}
    times = []
    config = LoopConfig(num_steps=6, learning_rate=1e-4, warmup_steps=1, bf16=True, log_every_steps=1, save_every_s=1e9)

    def told(line):
        torch.cuda.synchronize()
        times.append(time.monotonic())

    def batches(first):
        while True:
            yield batch(WINDOWS)

    train(objective, batches, config, tmp_path, report=told)
    assert any(not torch.equal(value, before[key]) for key, value in objective.state_dict().items() if key in before)
    seconds = min(later - earlier for earlier, later in pairwise(times))
    share = flop / seconds / DENSE_BF16_FLOPS
    memory = torch.cuda.max_memory_allocated() / 1e9
    print(f"\n{name}: {WINDOWS} windows, {flop / 1e12:.1f} TFLOP in {seconds:.3f} s, {memory:.1f} GB")
    print(f"model FLOP utilisation {share:.1%} of {DENSE_BF16_FLOPS / 1e12:.0f} TFLOP/s")
    assert seconds > 0
