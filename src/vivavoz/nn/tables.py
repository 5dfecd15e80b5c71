"""Tables of constants that every step would otherwise make anew: positions, rotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
Table = TypeVar("Table")


def remembered(make: Callable[P, Table]) -> Callable[P, Table]:
    """Let `make`, a function of sizes, a device and a dtype, give the same tensors to everyone who asks: do not write to them.

    They are ordinary tensors, also when first made within inference mode, so that training may use them later. A compiler folds
    constants itself, and fake tensors must not outlive their mode: there, nothing is kept.
    """

    @lru_cache(maxsize=64)
    def kept(*arguments: P.args, **named: P.kwargs) -> Table:
        with torch.inference_mode(False), torch.no_grad():
            table = make(*arguments, **named)
        if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
            torch.cuda.current_stream().synchronize()  # others may ask on a stream that does not wait for this one
        return table

    @wraps(make)
    def table(*arguments: P.args, **named: P.kwargs) -> Table:
        if torch.compiler.is_compiling() or detect_fake_mode() is not None:
            return make(*arguments, **named)
        return kept(*arguments, **named)  # type: ignore[arg-type]

    return table
