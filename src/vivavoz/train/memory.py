"""Less memory and more speed for large models: activations that are computed twice instead of kept, and compiled blocks.

Both act on the parts that a model repeats, in place, and change neither weights nor their names nor, to rounding, any result.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vivavoz.generator.transformer import TransformerBlock
from vivavoz.nn.conv import CausalResBlock
from vivavoz.nn.resample import CausalDownsample, CausalUpsample
from vivavoz.vae.fusion import FusionBlock

_BLOCKS = (CausalResBlock, CausalDownsample, CausalUpsample, FusionBlock, TransformerBlock)


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only the inputs of every block for the backward pass, which then computes its inside once more."""
    for block in repeated_blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)  # type: ignore[method-assign]


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile every block for the shapes it learns from; takes minutes at first. Before `checkpoint_blocks`, not after.

    A pass without gradients, which comes now and then and with other shapes, stays as it is.
    """
    for block in repeated_blocks(model):
        compiled = torch.compile(block.forward, backend=backend, dynamic=False)
        block.forward = partial(_either, compiled, block.forward)  # type: ignore[method-assign]


def _either(learning: Callable[..., Any], looking: Callable[..., Any], *inputs: Any) -> Any:
    return (learning if torch.is_grad_enabled() else looking)(*inputs)


def repeated_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The residual blocks, changes of resolution and transformer blocks of a VAE or generator."""
    return (module for module in model.modules() if isinstance(module, _BLOCKS))
