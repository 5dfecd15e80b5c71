"""What a preset is made of and what it costs: parameters, arithmetic per picture and stream memory, stage by stage.

Nothing is run: modules live on the `meta` device, where tensors have shapes and no content. Arithmetic counts matrix products,
convolutions and attention, two operations for a multiply-add; element-wise work, norms and the sampling of photographs are left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from vivavoz.audio.alignment import MEL_FRAMES_PER_WINDOW
from vivavoz.audio.encoder import NUM_MEL_BANDS
from vivavoz.engine.denoise import denoise, needs_no_reference_branch
from vivavoz.engine.model import Model
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.conditioning import group_audio
from vivavoz.generator.state import CacheRead
from vivavoz.nn.stream import StreamState
from vivavoz.presets import Preset
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.vae.config import VAEConfig
from vivavoz.vae.vae import VAE
from vivavoz.vae.warp import ReferenceWarp

META = torch.device("meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Numbers of trained parameters."""

    encoder: int
    """E1 and E2."""
    decoder: int
    """D1, D_ref, and D2 or the reference warp."""
    generator: int
    """The transformer and its embeddings."""
    audio: int
    """The audio encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One line of the account."""

    part: str
    """`encoder`, `decoder`, `generator` or `audio`."""
    name: str
    """Stage within the part."""
    parameters: int
    """Trained parameters."""
    gflop_per_frame: float
    """Arithmetic per picture of a running stream, 1e9 operations."""
    state_bytes: int
    """Memory that one stream keeps here: convolution tails, keys and values; float32."""
    features_per_frame: float = 0.0
    """Numbers that linear layers and convolutions read and write per picture beside their weights and states: what has to move
    when everything between two of them is done on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The account of a preset; `config_json.to_plain` makes it JSON."""

    preset: str
    """Name of the preset."""
    working_size_px: int
    """Side of the pictures that the VAE sees."""
    output_size_px: int
    """Side of the pictures that come out."""
    compression_ratio: float
    """Numbers in four pictures over numbers in the latent that stands for them, counted on tensors."""
    parameters: Parameters
    stages: tuple[Stage, ...]
    """In the order of the data. The encoder's pictures are only counted where a video is encoded: for training, not live."""


def describe(preset: Preset) -> Report:
    """Account for `preset` with one stream of one portrait, the preset's own sampling, and the window as full as it gets."""
    with META:
        model = Model(preset).eval()
    side = preset.working_size
    encoder = account_encoder(model.vae, side)
    decoder = account_decoder(model.vae, side, num_references=preset.lone_references)
    generator = _account_generator(model)
    audio = _account_audio(model)
    return Report(
        preset=preset.name,
        working_size_px=side,
        output_size_px=preset.output_size,
        compression_ratio=_compression_ratio(model.vae, side),
        parameters=Parameters(
            **{rows[0].part: sum(row.parameters for row in rows) for rows in (encoder, decoder, generator, audio)}
        ),
        stages=(*encoder, *decoder, *generator, *audio),
    )


def render(report: Report) -> Table:
    """The report as a table to print with rich."""
    table = Table(
        title=f"{report.preset}: sees {report.working_size_px} px, shows {report.output_size_px} px, "
        f"compression {report.compression_ratio:.0f}",
        caption="GFLOP per picture at 25 pictures a second, float32 state of one stream with one portrait",
        box=box.SIMPLE,
    )
    table.add_column("part")
    table.add_column("stage")
    for heading in ("parameters", "GFLOP/frame", "state"):
        table.add_column(heading, justify="right")
    for part in dict.fromkeys(stage.part for stage in report.stages):
        rows = [stage for stage in report.stages if stage.part == part]
        for row in rows:
            table.add_row("", row.name, *_cells(row.parameters, row.gflop_per_frame, row.state_bytes))
        totals = _cells(
            sum(row.parameters for row in rows), sum(row.gflop_per_frame for row in rows), sum(row.state_bytes for row in rows)
        )
        table.add_row(part, "total", *totals, style="bold", end_section=True)
    return table


def account_encoder(vae: VAE, side_px: int) -> tuple[Stage, ...]:
    """E1 and E2 for `side_px` x `side_px` pictures; `vae` is on the meta device."""
    encoder = vae.encoder
    state = vae.init_encoder_state(1, side_px, side_px)
    vae.encode(torch.empty(1, 3, 1, side_px, side_px, device=META), state)
    own = state.encoder
    plan = [
        _Part("E1 in", [encoder.e1.conv_in], [own.conv_in]),
        *(
            _Part(f"E{1 + (i > 3)} stage 1/{1 << i}", [stage], [stage_state])
            for i, (stage, stage_state) in enumerate(zip(encoder.stages, own.stages, strict=True))
        ),
        *(_Part(name, [part], []) for name, part in (("face map", encoder.face_map), ("E2 shapes", encoder.e2.reader)) if part),
        _Part("E2 in and out", [encoder.e2.standard, encoder.e2.norm_out, encoder.e2.conv_out], [own.conv_out]),
    ]
    clip = torch.empty(1, 3, FRAMES_PER_LATENT, side_px, side_px, device=META)
    stages = _account("encoder", plan, lambda: vae.encode(clip, state), num_frames=FRAMES_PER_LATENT)
    waiting = Stage(
        part="encoder",
        name="waiting frames",
        parameters=0,
        gflop_per_frame=0.0,
        state_bytes=state.pending.numel() * state.pending.element_size(),
    )
    return (waiting, *stages)


@torch.no_grad()
def account_decoder(vae: VAE, side_px: int, *, num_references: int = 1) -> tuple[Stage, ...]:
    """D1, D_ref, and D2 or the reference warp, for `side_px` x `side_px` pictures; `vae` is on the meta device."""
    latent_side = side_px // vae.config.spatial_factor
    references = vae.encode_references(torch.empty(1, num_references, 3, side_px, side_px, device=META))
    state = vae.init_decoder_state(1, latent_side, latent_side, num_references)
    z = torch.empty(1, vae.config.latent_channels, 1, latent_side, latent_side, device=META)
    vae.decode(z, references, state)
    head_name, warp = "D2", []
    if isinstance(vae.head, ReferenceWarp):
        head_name = "warp"
        warp = [
            _Part("warp pyramid, once", [vae.head.pyramid, *([vae.face_in] if vae.face_in is not None else [])], []),
            _Part("warp coarse flows", [vae.head.coarse_norms, vae.head.coarse_flows], []),
        ]
        if vae.head.bases is not None:
            warp.append(_Part("warp bases", [vae.head.bases], []))
    plan = [
        _Part("D1 in", [vae.d1.conv_in], [state.d1.conv_in]),
        *_stage_parts("D1", vae.d1.stages, state.d1.stages, (32, 16)),
        _Part("D_ref", [vae.fusion], []),
        *_stage_parts(head_name, vae.head.stages, state.head.stages, (8, 4, 2, 1)),
        *warp,
        _Part(f"{head_name} out", [vae.head.norm_out, vae.head.conv_out], [state.head.conv_out]),
    ]
    return _account("decoder", plan, lambda: vae.decode(z, references, state), num_frames=FRAMES_PER_LATENT)


def decoder_cost(config: VAEConfig, side_px: int) -> tuple[int, float]:
    """Parameters of the decoder of `config`, and its arithmetic per picture of `side_px` x `side_px`, in 1e9 operations."""
    with META:
        vae = VAE(config)
    stages = account_decoder(vae, side_px)
    return sum(stage.parameters for stage in stages), sum(stage.gflop_per_frame for stage in stages)


def _compression_ratio(vae: VAE, side_px: int) -> float:
    clips = [torch.empty(1, 3, frames, side_px, side_px, device=META) for frames in (1, 1 + FRAMES_PER_LATENT)]
    with torch.no_grad():
        latents = [vae.encode(clip).mean for clip in clips]
    return (clips[1].numel() - clips[0].numel()) / (latents[1].numel() - latents[0].numel())


def _account_generator(model: Model) -> tuple[Stage, ...]:
    """A block's denoising and its clean pass behind the fullest window, divided by the block's pictures."""
    generator, sampling = model.generator, model.preset.sampling
    config, block = generator.config, sampling.block_latents
    side = model.preset.working_size // model.vae.config.spatial_factor
    state = generator.init_state(
        1,
        (side, side),
        num_references=model.preset.lone_references,
        guidance=needs_no_reference_branch(sampling),
        cache_read=CacheRead.FILLED,
    )
    state.window_latents = config.window_latents - block
    num_frames = FRAMES_PER_LATENT * block
    features = torch.empty(1, num_frames, config.audio_features, device=META)
    noise = torch.empty(1, config.latent_channels, block, side, side, device=META)
    conditions = torch.empty(1, block, config.condition_channels, device=META)
    one_step = replace(sampling, num_steps=1)
    times = flow_times(1, device=META)

    def step() -> None:
        denoise(noise, conditions, times, state, generator=generator, runtime=model.runtime, sampling=one_step)

    def before_and_after() -> None:
        generator.conditions(group_audio(features, starts_video=False), starts_video=False)
        generator.write_context(noise, state)

    transformer = generator.transformer
    plan = [
        _Part("conditions", [generator.audio, *([generator.controls] if generator.controls else [])], []),
        _Part("tokens in", [generator.latent_in, generator.condition_in], []),
        _Part("flow time", [transformer.flow_time], []),
        _Part(f"{config.depth} blocks", [transformer.blocks], [state]),
        _Part("velocity out", [transformer.out_modulation, transformer.out], []),
    ]
    embeddings = Stage(
        part="generator",
        name="embeddings",
        parameters=sum(parameter.numel() for parameter in generator.parameters(recurse=False)),
        gflop_per_frame=0.0,
        state_bytes=0,
    )
    once = _account("generator", plan, before_and_after, num_frames=num_frames)
    every_step = _account("generator", plan, step, num_frames=num_frames)
    stages = (
        replace(
            stage,
            gflop_per_frame=stage.gflop_per_frame + sampling.num_steps * in_a_step.gflop_per_frame,
            features_per_frame=stage.features_per_frame + sampling.num_steps * in_a_step.features_per_frame,
        )
        for stage, in_a_step in zip(once, every_step, strict=True)
    )
    return (embeddings, *stages)


def _account_audio(model: Model) -> tuple[Stage, ...]:
    """The audio encoder's convolutions, and what hearing holds back."""
    windows = torch.empty(1, 1, MEL_FRAMES_PER_WINDOW, NUM_MEL_BANDS, device=META)
    plan = [_Part("audio encoder", [model.audio.encoder], [model.audio.init_state(1)])]
    return _account("audio", plan, lambda: model.audio.encoder(windows), num_frames=1)


def _cells(parameters: int, gflop: float, state_bytes: int) -> tuple[str, str, str]:
    return f"{parameters:,}", f"{gflop:,.3f}", f"{state_bytes / 1024:,.0f} KiB"


@dataclass(frozen=True, slots=True)
class _Part:
    """A line of the account before it is counted. Its modules are called, each as a whole; its states are its own."""

    name: str
    modules: Sequence[nn.Module]
    states: Sequence[StreamState]


def _stage_parts(name: str, stages: nn.ModuleList, states: Sequence[StreamState], sides: Sequence[int]) -> Iterator[_Part]:
    """The stages of D1, D2 or the warp, named by the side they end at; the warp calls their parts one by one."""
    for stage, state, side in zip(stages, states, sides, strict=False):
        yield _Part(f"{name} stage 1/{side}", list(stage.children()), [state])


def _account(part: str, plan: Sequence[_Part], run: Callable[[], object], *, num_frames: int) -> tuple[Stage, ...]:
    """Count `plan`'s parameters and states, and its arithmetic while `run` makes `num_frames` pictures."""
    flop = [0] * len(plan)
    features = [0] * len(plan)

    def watch(index: int, module: nn.Module) -> Iterator[RemovableHandle]:
        def before(*_: object) -> None:
            flop[index] -= counter.get_total_flops()

        def after(*_: object) -> None:
            flop[index] += counter.get_total_flops()

        def moved(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            features[index] += inputs[0].numel() + output.numel()

        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d):
                yield layer.register_forward_hook(moved)
        # A list is never called, its modules are.
        for called in module if isinstance(module, nn.ModuleList) else [module]:
            yield called.register_forward_pre_hook(before)
            yield called.register_forward_hook(after)

    with torch.no_grad(), ExitStack() as hooks, FlopCounterMode(display=False) as counter:
        for index, line in enumerate(plan):
            for module in line.modules:
                for handle in watch(index, module):
                    hooks.enter_context(handle)
        run()
    rest = counter.get_total_flops() - sum(flop)
    assert rest == 0, f"{rest} operations of the {part} belong to no stage"
    return tuple(
        Stage(
            part=part,
            name=line.name,
            parameters=sum(parameter.numel() for module in line.modules for parameter in module.parameters()),
            gflop_per_frame=flop[index] / num_frames / 1e9,
            state_bytes=sum(state.num_bytes for state in line.states),
            features_per_frame=features[index] / num_frames,
        )
        for index, line in enumerate(plan)
    )
