"""Steps recorded as CUDA graphs: a block's whole denoising loop, its clean pass and its decoding are one launch each.

A graph reads and writes the memory it was recorded on. So every recording has tensors of its own, of which a call fills the
arguments, and from which it takes the results and what the step wrote: any stream, and any batch of its form, may use it. That
costs a copy of the caches per block (for `paper` less than a millisecond for 16 pictures), and their memory once per recording.
"""

from __future__ import annotations

import copy
import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from vivavoz.engine.denoise import denoise
from vivavoz.engine.runtime import Runtime, compiled_steps, eager_runtime
from vivavoz.engine.trees import tensors_of, with_tensors
from vivavoz.errors import ConfigError
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import CacheRead, GeneratorState
from vivavoz.generator.transformer import Modulations
from vivavoz.presets import SamplingConfig

if TYPE_CHECKING:
    from vivavoz.engine.model import Model

Run = Callable[[], Any]


class Recorder(Protocol):
    """Records steps that take turns: those of one recorder never run at the same time, on the device neither."""

    def turn(self) -> AbstractContextManager[None]:
        """While it is held, steps are recorded and replayed."""

    def record(self, fill: Run, run: Run) -> tuple[Callable[[], None], Any]:
        """Given what fills the arguments and what runs the step: what replays it, and the result that a replay fills anew."""


_WARM_UP_RUNS = 3
_FLOAT8_CAPABILITY = (8, 9)
"""Oldest CUDA capability that multiplies in float8 (Ada, Hopper)."""


def cuda_graphs_runtime(model: Model, *, is_compiled: bool = False, float8: bool = False) -> Runtime:
    """Every step of the steady state as a graph, of PyTorch's own kernels or (`is_compiled`) of the compiler's.

    With `float8` the generator's blocks multiply in 8 bits, from weights and activations scaled by row.

    Raises `ConfigError` for a model that is not on a CUDA device, and for float8 without torchao, an older device or other
    weights than bfloat16.
    """
    name = "cuda-graphs-fp8" if float8 else "cuda-graphs-compiled" if is_compiled else "cuda-graphs"
    if model.device.type != "cuda":
        raise ConfigError(f"the {name} runtime is for models on a CUDA device, got one on {model.device.type}: use auto")
    if float8:
        check_float8(model)
    generator = in_float8(model.generator) if float8 else model.generator
    steps = eager_runtime(model, generator)
    if is_compiled or float8:  # without the compiler, scaling to 8 bits costs more than 8 bits win
        steps = compiled_steps(steps)
    steps = replace(steps, cache_read=CacheRead.MASKED)
    return recorded(steps, generator, name=name, generating=CudaGraphs(model.device), decoding=CudaGraphs(model.device))


def recorded(steps: Runtime, generator: Generator, *, name: str, generating: Recorder, decoding: Recorder) -> Runtime:
    """`steps` with its loop, its clean pass and its steady decoding recorded, once for each form of arguments. Two recorders,
    so that the generator may work while the decoder does."""

    def loop(
        noise: Tensor,
        conditions: Tensor,
        flow_times: Tensor,
        state: GeneratorState,
        sampling: SamplingConfig,
        modulations: tuple[Modulations, ...],
    ) -> Tensor:
        return denoise(
            noise,
            conditions,
            flow_times,
            state,
            generator=generator,
            runtime=steps,
            sampling=sampling,
            modulations=modulations,
        )

    return replace(
        steps,
        name=name,  # type: ignore[arg-type]
        denoise=Recorded(loop, recorder=generating),
        write_context=Recorded(steps.write_context, recorder=generating, written=1),
        decode=Recorded(steps.decode, recorder=decoding, written=2),
        batch_size=lambda num_rows: 1 << num_rows.bit_length() - 1,  # every size is recorded anew: powers of two keep them few
    )


class Recorded:
    """A step that is recorded when it first gets arguments of some form, and replayed from then on.

    Arguments are trees of tensors; what else is in them must not change what the step does, but for frozen dataclasses that hold
    no tensor: these are part of the form. Argument number `written` is a state, which the step changes.
    """

    def __init__(self, step: Callable[..., Any], *, recorder: Recorder, written: int | None = None) -> None:
        self._step, self._recorder, self._written = step, recorder, written
        self._recordings: dict[object, _Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        """What the step gives for `arguments`, as tensors of its own."""
        tensors = tensors_of(arguments)
        settings = tuple(argument for argument in arguments if isinstance(argument, SamplingConfig))
        form = (settings, tuple((tensor.shape, tensor.dtype) for tensor in tensors))
        with self._recorder.turn():
            recording = self._recordings.get(form)
            if recording is None:
                recording = self._recordings[form] = self._recorded(arguments, tensors)
            recording.fill(tensors)
            recording.replay()
            if self._written is not None:
                changed = tensors_of(recording.arguments[self._written])
                for theirs, mine in zip(tensors_of(arguments[self._written]), changed, strict=True):
                    theirs.copy_(mine)
            return with_tensors(recording.result, [tensor.clone() for tensor in tensors_of(recording.result)])

    def _recorded(self, arguments: tuple[Any, ...], tensors: list[Tensor]) -> _Recording:
        own = [torch.empty_like(tensor) for tensor in tensors]
        mine = with_tensors(arguments, own)

        def fill() -> None:
            for to, source in zip(own, tensors, strict=True):
                to.copy_(source)

        replay, result = self._recorder.record(fill, lambda: self._step(*mine))
        return _Recording(arguments=mine, tensors=own, replay=replay, result=result)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recording:
    """A step on tensors of its own."""

    arguments: tuple[Any, ...]
    tensors: list[Tensor]
    replay: Callable[[], None]
    result: Any

    def fill(self, tensors: list[Tensor]) -> None:
        for mine, theirs in zip(self.tensors, tensors, strict=True):
            mine.copy_(theirs)


class CudaGraphs:
    """Records CUDA graphs on a device, for any threads and CUDA streams.

    A turn starts, on the device, when the last one is over, whatever the streams: the arguments of a recording are filled only
    when what read them is done. Graphs of two recorders may run at the same time. Each has memory of its own but for the
    workspace of matrix products, which PyTorch keeps for every stream that graphs are recorded on: so each recorder has a stream.
    """

    _one_at_a_time = threading.Lock()
    """PyTorch records one graph at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._stream = torch.cuda.Stream(device)
        self._last = torch.cuda.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See `Recorder`."""
        with self._lock, torch.cuda.device(self._device):
            self._last.wait()
            try:
                yield
            finally:
                self._last.record()

    def record(self, fill: Run, run: Run) -> tuple[Callable[[], None], Any]:
        """Run a few times, so that libraries choose and allocate, then capture."""
        with self._one_at_a_time:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_RUNS):
                    fill()  # a step that writes would else walk on
                    run()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                result = run()
        return graph.replay, result


def lacks_float8() -> str | None:
    """What is missing for float8, as the line to show; None if nothing is."""
    return "torchao not installed: pip install 'vivavoz[fp8]'" if importlib.util.find_spec("torchao") is None else None


def check_float8(model: Model) -> None:
    """Raise `ConfigError` where float8 cannot work."""
    if missing := lacks_float8():
        raise ConfigError(f"the cuda-graphs-fp8 runtime cannot start: {missing}")
    if model.dtype != torch.bfloat16:
        raise ConfigError(
            f"the cuda-graphs-fp8 runtime needs a bfloat16 model, got {str(model.dtype).removeprefix('torch.')}: "
            "load it with dtype=torch.bfloat16"
        )
    if (capability := torch.cuda.get_device_capability(model.device)) < _FLOAT8_CAPABILITY:
        raise ConfigError(
            f"the cuda-graphs-fp8 runtime needs CUDA capability 8.9, got {capability[0]}.{capability[1]}: "
            "use cuda-graphs-compiled"
        )


def in_float8(generator: Generator) -> Generator:
    """A copy of `generator` whose `is_worth_float8` layers hold float8 weights and quantise what comes in, row by row."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    quantised = copy.deepcopy(generator)
    quantize_(quantised, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), filter_fn=is_worth_float8)
    return quantised


def is_worth_float8(module: nn.Module, name: str) -> bool:
    """Whether a layer of the generator goes into float8: the products of its blocks, of sizes the kernels take.

    Modulations are computed once per session, and the first and last layers decide what a latent says.
    """
    if not isinstance(module, nn.Linear) or module.in_features % 16 or module.out_features % 16:
        return False
    return name.startswith("transformer.blocks.") and ".modulation." not in name
