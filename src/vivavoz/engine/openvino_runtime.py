"""The fields of the reference warp by OpenVINO, on CPUs: every picture is a job, and every thread makes pictures of its own.

For presets whose decoder sees each picture by itself (frame codes, temporal kernels of 1): nothing but the photographs' features
goes from one picture to the next. OpenVINO joins what PyTorch does in many small steps; `int8` adds convolutions and products in
8 bits, calibrated by NNCF on a clip that the model itself makes (`calibration_inputs`).

B rows, K codes of a picture, T pictures, M references, h w latent size.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import vivavoz
from vivavoz.config_json import to_plain
from vivavoz.engine.cpu_compose import compose_in_8_bits, in_turn, photos_in_8_bits
from vivavoz.engine.runtime import Runtime, eager_runtime
from vivavoz.engine.trees import tensors_of, with_tensors
from vivavoz.errors import ConfigError
from vivavoz.timing import SAMPLE_RATE_HZ
from vivavoz.vae.vae import VAE, DecoderState, References
from vivavoz.vae.warp import WarpFields

if TYPE_CHECKING:
    from vivavoz.engine.model import Model

_NOT_IN_8_BITS = [
    *("Add", "Subtract", "Multiply", "Divide", "Power", "Sqrt", "ReduceMean", "ReduceSum"),
    *("Interpolate", "GridSample", "ScaledDotProductAttention"),
]
_BASES = r".*head\.bases.*"
"""A code's way is added to a flow as it is: its error in 8 bits would be the picture's."""
CALIBRATION_S = 4
"""Length of the clip that int8 is calibrated on, in seconds."""
CALIBRATION_PICTURES = 32
"""How many of its pictures are looked at."""


def lacks(*, int8: bool) -> str | None:
    """What is missing for this runtime, as the line to show; None if nothing is."""
    needed = ("openvino", "nncf", "skimage") if int8 else ("openvino",)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: pip install 'vivavoz[openvino]'" if missing else None


def openvino_runtime(model: Model, *, int8: bool) -> Runtime:
    """Eager, but for the decoder. With `int8`, the model is calibrated first, which takes a minute or so; what comes out is kept
    in `cache_folder` for the next time.

    Raises `ConfigError` without OpenVINO (or NNCF), and for a model it is not for.
    """
    name = "openvino-int8" if int8 else "openvino"
    if missing := lacks(int8=int8):
        raise ConfigError(f"the {name} runtime cannot start: {missing}")
    if model.device.type != "cpu" or model.dtype != torch.float32 or not model.preset.vae.sees_single_pictures:
        raise ConfigError(
            f"the {name} runtime is for float32 models on a CPU whose decoder sees single pictures, got the preset "
            f"{model.preset.name} in {str(model.dtype).removeprefix('torch.')} on {model.device.type}: use auto"
        )
    makers = _Makers(model, int8=int8)
    makers.of(1)  # not when the first stream already waits

    def decode(z: Tensor, references: References, state: DecoderState) -> Iterator[Tensor]:
        assert references.photos is not None, "a stream has a portrait at least"
        assert references.mask is None, "a stream has all of its portraits"
        codes = model.vae.next_codes(z, state)
        photos = photos_in_8_bits(references.photos)
        session = [tensor.contiguous() for tensor in tensors_of(_of_session(references))]
        make = makers.of(references.num_references)
        constants = [[tensor[row : row + 1].numpy() for tensor in session] for row in range(len(codes))]
        jobs = [
            partial(make, [picture[row : row + 1].contiguous().numpy(), *constant], photos[row : row + 1])
            for picture in codes.split(1, dim=2)
            for row, constant in enumerate(constants)
        ]
        pictures = in_turn(jobs)
        while of_rows := list(itertools.islice(pictures, len(codes))):
            yield torch.cat(of_rows)

    # A latent at a time, so that an interruption ends a block soon.
    return replace(
        eager_runtime(model),
        name=name,  # type: ignore[arg-type]
        decode_first=decode,
        decode=decode,
        decode_latents=1,
        can_leave_off=True,
    )


class _Makers:
    """The compiled decoder for every number of references, made when first asked for."""

    def __init__(self, model: Model, *, int8: bool) -> None:
        self.model, self.int8 = model, int8
        self.num_threads = torch.get_num_threads()
        self._made: dict[int, _Maker] = {}
        self._lock = threading.Lock()

    def of(self, num_references: int) -> _Maker:
        """The decoder for so many references."""
        with self._lock:
            if num_references not in self._made:
                graph = _graph(self.model, num_references, int8=self.int8)
                self._made[num_references] = _Maker(graph, self.num_threads)
            return self._made[num_references]


class _Maker:
    """A compiled decoder, and as many places to run it in as there are threads."""

    def __init__(self, graph: Any, num_threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if _has_fast_bfloat16() else "f32",
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": num_threads,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(num_threads):
            self._free.put(compiled.create_infer_request())

    def __call__(self, inputs: Sequence[NDArray[np.float32]], photos: NDArray[np.uint8]) -> Tensor:
        """One picture (1, 1, H, W, 3) uint8 from its code (1, K, 1, h, w), the session's tensors, and its photographs."""
        request = self._free.get()
        try:
            # What comes out is the request's own memory: the picture is made before the next may use it.
            found = request.infer(dict(enumerate(inputs)), share_inputs=True, share_outputs=True)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                fields = WarpFields(*(torch.from_numpy(found[i]) for i in range(len(found))))
            return compose_in_8_bits(fields, photos)
        finally:
            self._free.put(request)


class _Fields(nn.Module):
    """What is exported: one picture's code and the session's tensors to the fields, all of them arguments."""

    def __init__(self, vae: VAE, references: References) -> None:
        super().__init__()
        self.vae, self.references = vae, references

    def forward(self, codes: Tensor, *session: Tensor) -> tuple[Tensor, ...]:
        """`codes` (1, K, 1, h, w), `session` as `tensors_of(_of_session(references))`."""
        latents, fusion, warp, anchor, cover = with_tensors(_of_session(self.references), session)
        references = replace(self.references, latents=latents, fusion=fusion, warp=warp, anchor=anchor, cover=cover, photos=None)
        fields = self.vae.fields_of(codes, references)
        return tuple(getattr(fields, field.name) for field in dataclass_fields(WarpFields))


def _of_session(references: References) -> tuple[Any, Any, Any, Any, Any]:
    """What the decoder reads of references."""
    return references.latents, references.fusion, references.warp, references.anchor, references.cover


def _graph(model: Model, num_references: int, *, int8: bool) -> Any:
    """OpenVINO's model of the decoder, from the cache or anew."""
    import openvino

    path = cache_folder() / _digest(model, num_references, int8=int8) / "decoder.xml"
    if path.is_file():
        return openvino.Core().read_model(path)
    graph = _exported(model, num_references)
    if int8:
        graph = _reread(_in_8_bits(_reread(graph), calibration_inputs(model, num_references)))
    _keep(graph, path)
    return graph


def _reread(graph: Any) -> Any:
    """The same model, written and read. Quantised as it comes from the converter, OpenVINO 2026.4 dies of a division by zero."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(graph, path, compress_to_fp16=False)
        return openvino.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())


@torch.inference_mode(False)
@torch.no_grad()
def _exported(model: Model, num_references: int) -> Any:
    import openvino

    preset = model.preset
    side = preset.working_size // preset.vae.spatial_factor
    blank = torch.zeros(1, num_references, 3, preset.working_size, preset.working_size)
    references = model.vae.encode_references(blank)
    example = (torch.zeros(1, preset.vae.code_channels, 1, side, side), *tensors_of(_of_session(references)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes become constants, as they should
        shapes = [openvino.PartialShape(list(tensor.shape)) for tensor in example]
        return openvino.convert_model(_Fields(model.vae, references), example_input=example, input=shapes)


def _in_8_bits(graph: Any, inputs: list[list[NDArray[np.float32]]]) -> Any:
    import nncf

    # Left in floating point: what is no product. The norms' means and roots do not survive 8 bits.
    ignored = nncf.IgnoredScope(types=_NOT_IN_8_BITS, patterns=[_BASES], validate=False)
    dataset = nncf.Dataset(inputs)
    with redirect_stdout(sys.stderr):  # it shows its progress, and stdout is the caller's
        return nncf.quantize(graph, dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(inputs), ignored_scope=ignored)


def calibration_inputs(model: Model, num_references: int) -> list[list[NDArray[np.float32]]]:
    """What the decoder is given while `model` lets a public-domain portrait speak a synthetic sound: always the same.

    Of each of `CALIBRATION_PICTURES` pictures, evenly apart, its code and the session's tensors.
    """
    import skimage.data

    face = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    if num_references == model.preset.lone_references:
        avatar = model.avatar(face)
    else:
        avatar = model.avatar([face, face[:, ::-1], face[16:-16, 16:-16]][:num_references], posed=False)
    latents: list[Tensor] = []

    def listen(z: Tensor, references: References, state: DecoderState) -> list[Tensor]:
        latents.append(z)
        return [torch.zeros(1, 4 * z.shape[2], 1, 1, 3, dtype=torch.uint8)]

    runtime = model.runtime
    model.runtime = replace(eager_runtime(model), decode_first=listen, decode=listen)
    try:
        with avatar.stream() as stream:
            for _ in stream.push(_syllables(CALIBRATION_S * SAMPLE_RATE_HZ)):
                pass
    finally:
        model.runtime = runtime
    with torch.inference_mode():
        codes = model.vae.codes_of(torch.cat(latents, dim=2))
    chosen = np.linspace(0, codes.shape[2] - 1, CALIBRATION_PICTURES).astype(int).tolist()
    session = [tensor.contiguous().numpy() for tensor in tensors_of(_of_session(avatar.references))]
    return [[codes[:, :, t : t + 1].contiguous().numpy(), *session] for t in chosen]


def _syllables(num_samples: int) -> NDArray[np.float32]:
    """Noise that swells and fades four times a second, louder and quieter, `(N,)` at 16 kHz."""
    rng = np.random.default_rng(0)
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    loudness = (0.5 - 0.5 * np.cos(8 * np.pi * time_s)) * (0.55 + 0.45 * np.sin(1.3 * np.pi * time_s))
    return (0.2 * loudness * rng.standard_normal(num_samples)).astype(np.float32)


def cache_folder() -> Path:
    """Where converted decoders are kept: `vivavoz/openvino` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivavoz" / "openvino"


def _digest(model: Model, num_references: int, *, int8: bool) -> str:
    """A name that changes with everything a converted decoder depends on: weights, sizes, code, tools."""
    tools = [importlib.metadata.version(name) for name in ("openvino", "torch", *(["nncf"] if int8 else []))]
    digest = hashlib.sha256(repr((to_plain(model.preset), num_references, int8, tools, CALIBRATION_PICTURES)).encode())
    package = Path(vivavoz.__file__).parent
    for path in (Path(__file__), *sorted(package.glob("nn/*.py")), *sorted(package.glob("vae/*.py"))):
        digest.update(path.read_bytes())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _keep(graph: Any, path: Path) -> None:
    """Write the model beside the others, whole or not at all; where nothing can be written, it is made anew next time."""
    import openvino

    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent.parent))
        try:
            openvino.save_model(graph, temporary / path.name, compress_to_fp16=False)
            temporary.rename(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        return


def _has_fast_bfloat16() -> bool:
    """Whether the CPU has AMX. Without it products in bfloat16 are slower than in float32 (docs/performance.md)."""
    return bool(torch.cpu._is_amx_tile_supported())
