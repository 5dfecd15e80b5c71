"""Real optimizer steps: of the tiny models everywhere, of those of the paper's size on a GPU (`pytest -m gpu -s`)."""

import pytest
import torch
from benchmarks.training_step import PARTS, measure


@pytest.mark.parametrize("part", PARTS)
def test_a_step_moves_the_weights_and_is_accounted_for(part):
    found = measure("tiny", part, windows=2, num_steps=3)
    assert found["moved"] > 10
    assert found["tflops"] == pytest.approx(found["tflop"] / found["seconds"])
    twice = measure("tiny", part, windows=4, num_steps=2)
    assert twice["tflop"] == pytest.approx(2 * found["tflop"])
    assert twice["parameters"] == found["parameters"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("part", PARTS)
def test_a_step_at_paper_size(part):
    found = measure("paper", part, windows=4)
    print(f"\n{found}")
    assert found["parameters"] > 0.9e9
    assert found["moved"] > 100
    assert found["memory_gb"] < 80
    assert found["utilisation"] is None or 0 < found["utilisation"] < 1
