"""Silero's voice activity model, whose weights come with its package."""

import functools
from typing import Any

import torch


@functools.cache
def load_voice_detector() -> Any:
    """The model, loaded once: what was heard before is in it, so who hears a stream takes a copy.

    Raises:
        ImportError: silero-vad is not installed.
    """
    num_threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad
    finally:
        torch.set_num_threads(num_threads)  # the package sets it to one when it is imported
    return load_silero_vad()
