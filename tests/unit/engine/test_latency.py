from fractions import Fraction

import pytest

from tests.models import speech, tiniest_avatar
from vivavoz.engine.latency import latency_budget
from vivavoz.errors import ConfigError
from vivavoz.generator.config import BLOCK_SIZES


@pytest.mark.parametrize("block_latents", BLOCK_SIZES)
def test_the_budget_is_what_a_stream_needs(block_latents: int) -> None:
    """Feed a stream in steps of 8 samples, and see how far behind its sound each picture comes."""
    budget = latency_budget(block_latents)
    samples = speech(53_000)  # five blocks: after that the look-ahead repeats
    lags = []
    with tiniest_avatar().stream(block_latents=block_latents) as stream:
        for end in range(8, len(samples), 8):
            lags += [(frame.index, Fraction(end, 16_000) - frame.time) for frame in stream.push(samples[end - 8 : end])]
    assert lags[0] == (0, budget.first_picture_s)
    assert max(lag for _, lag in lags) == budget.total_s


def test_the_default_blocks_budget() -> None:
    budget = latency_budget(4)
    assert (budget.block_s, budget.lookahead_s) == (Fraction(16, 25), Fraction("0.1325"))
    assert float(budget.total_s) == 0.7725


def test_another_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="block_latents is 3"):
        latency_budget(3)
