"""vivavoz: portrait images and live speech in, a live talking-portrait video out."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vivavoz.engine.avatar import Avatar
    from vivavoz.engine.control_file import read_control_track
    from vivavoz.engine.controls import ControlTrack, StreamControls
    from vivavoz.engine.conversation import Frame, Interruption
    from vivavoz.engine.generate import Progress, Summary, generate
    from vivavoz.engine.latency import LatencyBudget, latency_budget
    from vivavoz.engine.model import Model
    from vivavoz.engine.pool import PooledStream, StreamPool
    from vivavoz.engine.stream import Stream
    from vivavoz.engine.weights import load, save_model
    from vivavoz.errors import VivavozError
    from vivavoz.presets import Preset, SamplingConfig, preset_by_name

_HOMES = {
    "Avatar": "vivavoz.engine.avatar",
    "ControlTrack": "vivavoz.engine.controls",
    "Frame": "vivavoz.engine.conversation",
    "Interruption": "vivavoz.engine.conversation",
    "LatencyBudget": "vivavoz.engine.latency",
    "Model": "vivavoz.engine.model",
    "PooledStream": "vivavoz.engine.pool",
    "Preset": "vivavoz.presets",
    "Progress": "vivavoz.engine.generate",
    "SamplingConfig": "vivavoz.presets",
    "Stream": "vivavoz.engine.stream",
    "StreamControls": "vivavoz.engine.controls",
    "StreamPool": "vivavoz.engine.pool",
    "Summary": "vivavoz.engine.generate",
    "VivavozError": "vivavoz.errors",
    "generate": "vivavoz.engine.generate",
    "latency_budget": "vivavoz.engine.latency",
    "load": "vivavoz.engine.weights",
    "preset_by_name": "vivavoz.presets",
    "read_control_track": "vivavoz.engine.control_file",
    "save_model": "vivavoz.engine.weights",
}

__all__ = [
    "Avatar",
    "ControlTrack",
    "Frame",
    "Interruption",
    "LatencyBudget",
    "Model",
    "PooledStream",
    "Preset",
    "Progress",
    "SamplingConfig",
    "Stream",
    "StreamControls",
    "StreamPool",
    "Summary",
    "VivavozError",
    "__version__",
    "generate",
    "latency_budget",
    "load",
    "preset_by_name",
    "read_control_track",
    "save_model",
]


def __getattr__(name: str) -> object:
    """Import public names when they are first used: `import vivavoz` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vivavoz' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
