"""How our parts compare in cost with those that a user would otherwise run, on this machine, in one run.

    python benchmarks/peers.py --size 512 --count                  # operations only: exact, and done in a minute
    python benchmarks/peers.py --size 256 --frames 17 --report benchmarks/reports
    python benchmarks/peers.py --only lite-decoder,wan-vae,ltx-vae

Weights are random everywhere: speed does not depend on them. Rounds are interleaved (every part once, then all again), so that
what else the machine does falls on all alike; the table has medians of wall time and of processor time, which other work disturbs
less, and ratios to `lite`'s part of the same kind. Peers from diffusers (requirements-peers.txt) are left out where it is not
installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import vivavoz
from vivavoz.engine.denoise import denoise, needs_no_reference_branch
from vivavoz.engine.runtime import Runtime
from vivavoz.flow.schedule import flow_times
from vivavoz.generator.generator import Generator
from vivavoz.generator.state import CacheRead
from vivavoz.presets import Preset, lite, paper
from vivavoz.timing import FRAMES_PER_LATENT
from vivavoz.vae.vae import VAE

CPU, META = torch.device("cpu"), torch.device("meta")
"""On `meta` tensors have shapes and no content: operations are counted there."""

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What is timed, and on what."""

    size_px: int
    num_frames: int
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU

    def random(self, *shape: int) -> Tensor:
        """A tensor of normal noise."""
        return torch.randn(shape, dtype=self.dtype, device=self.device)


Make = Callable[[Options], tuple[Run, int]]
"""Gives what to call, and how many pictures a call stands for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Something to time."""

    kind: str
    """`decoder` or `generator`: what it is compared with."""
    what: str
    make: Make


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    dtype = torch.bfloat16 if arguments.bfloat16 else torch.float32
    options = Options(size_px=arguments.size, num_frames=arguments.frames, dtype=dtype)
    wanted = {name: part for name, part in PARTS.items() if not arguments.only or name in arguments.only.split(",")}
    rows = {name: {"kind": part.kind, "what": part.what, **count(part, options)} for name, part in wanted.items()}
    figures = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "vivavoz": vivavoz.__version__,
        "size_px": options.size_px,
        "num_frames": options.num_frames,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": arguments.threads,
        "parts": rows,
    }
    path = None if arguments.report is None else arguments.report / f"peers-{datetime.now(UTC):%Y-%m-%d}-{options.size_px}px.json"
    if not arguments.count:
        parts = {name: part for name, part in wanted.items() if "left_out" not in rows[name]}
        measure(parts, options, arguments.rounds, rows, lambda: keep(figures, path))
    keep(figures, path)
    print(to_markdown(figures), "" if path is None else path, sep="\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time our decoders and generators beside peers'.")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, a multiple of 64 (default: 256)")
    parser.add_argument("--frames", type=int, default=17, help="pictures of a clip, 1 + 8n (default: 17)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one to warm up (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16 instead of float32")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"only these parts of {', '.join(PARTS)}")
    parser.add_argument("--count", action="store_true", help="count operations, time nothing")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write the figures there as JSON")
    return parser.parse_args()


def keep(figures: dict[str, Any], path: Path | None) -> None:
    """Write the report as it is."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def count(part: Part, options: Options) -> dict[str, Any]:
    """Operations per picture (two for a multiply-add) of matrix products, convolutions and attention; nothing is computed."""
    try:
        run, pictures = part.make(replace(options, device=META, dtype=torch.float32))
    except ImportError as error:
        return {"left_out": f"{error}; pip install -r benchmarks/requirements-peers.txt"}
    with FlopCounterMode(display=False) as counter:
        run()
    return {"gflop": counter.get_total_flops() / pictures / 1e9}


def measure(
    parts: dict[str, Part], options: Options, rounds: int, rows: dict[str, dict[str, Any]], after_each: Callable[[], None]
) -> None:
    """Add the medians of wall and processor time per picture to `rows`, anew after every part of every round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for number in range(rounds):
        for name, part in parts.items():
            torch.manual_seed(0)
            run, pictures = part.make(options)  # made anew every round: they do not all fit into memory at once
            run()  # warms up
            wall_s, processor_s = time.perf_counter(), time.process_time()
            run()
            took = (time.perf_counter() - wall_s) / pictures, (time.process_time() - processor_s) / pictures
            del run
            gc.collect()
            times[name].append(took)
            wall, processor = zip(*times[name], strict=True)
            rows[name] |= {"wall_ms": 1000 * statistics.median(wall), "processor_ms": 1000 * statistics.median(processor)}
            rows[name] |= {"rounds": len(wall), "processor_ms_all": [round(1000 * one, 2) for one in processor]}
            after_each()
            print(f"round {number + 1}: {name} {1000 * took[0]:.1f} ms a picture, {1000 * took[1]:.1f} of processors", flush=True)


def to_markdown(figures: dict[str, Any]) -> str:
    """The table: a row for every part, and its ratios to `lite`'s of the same kind."""
    rows = figures["parts"]
    lines = [
        f"{figures['size_px']} x {figures['size_px']}, {figures['num_frames']} pictures, {figures['dtype']}, "
        f"{figures['threads']} threads, load {figures['load_average']:.1f}. All numbers are per picture.",
        "",
        "| part | kind | GFLOP | times lite's | wall, ms | processor, ms | times lite's | |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, row in rows.items():
        if "left_out" in row:
            lines.append(f"| {name} | {row['kind']} | | | | | | left out: {row['left_out']} |")
            continue
        own = rows.get(f"lite-{row['kind']}", {})
        gflop = f"{row['gflop']:,.0f}" if row["gflop"] >= 10 else f"{row['gflop']:.2g}"
        cells = [gflop, _ratio(row, own, "gflop"), "", "", ""]
        if "wall_ms" in row:
            cells[2:] = [f"{row['wall_ms']:,.1f}", f"{row['processor_ms']:,.1f}", _ratio(row, own, "processor_ms")]
        lines.append(f"| {name} | {row['kind']} | {' | '.join(cells)} | {row['what']} |")
    return "\n".join(lines)


def _ratio(row: dict[str, Any], own: dict[str, Any], name: str) -> str:
    return f"{row[name] / own[name]:,.3g}" if own.get(name) else ""


def randomised(make: Callable[[], nn.Module], options: Options) -> Any:
    """A module with small random weights, made without the time its own initialisation takes; without content on `meta`."""
    with META:
        module = make().eval()
    if options.device == META:
        return module
    module = module.to_empty(device=options.device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.uniform_(-0.02, 0.02)
        else:
            tensor.zero_()
    for name, tensor in module.named_buffers():
        if name.endswith("running_var"):
            tensor.fill_(1.0)
    return module.to(options.dtype)


def our_decoder(preset: Preset) -> Make:
    """D1, D_ref and D2 (or the warp) on a whole clip, with one reference that was encoded before."""

    def make(options: Options) -> tuple[Run, int]:
        vae, work = randomised(lambda: VAE(preset.vae), options), working_size(preset, options)
        photo = options.random(1, 1, 3, options.size_px, options.size_px)
        references = vae.encode_references(options.random(1, 1, 3, work, work), photos=photo)
        num_latents = 1 + (options.num_frames - 1) // FRAMES_PER_LATENT
        z = options.random(1, preset.vae.latent_channels, num_latents, work // 64, work // 64)
        return lambda: vae.decode(z, references), options.num_frames

    return make


def our_generator(preset: Preset) -> Make:
    """A block of latents behind the fullest window: all steps, all branches of guidance, and the clean pass."""

    def make(options: Options) -> tuple[Run, int]:
        generator = randomised(lambda: Generator(preset.generator), options)
        config, sampling = preset.generator, preset.sampling
        side, block = working_size(preset, options) // 64, sampling.block_latents
        state = generator.init_state(
            1, (side, side), num_references=1, guidance=needs_no_reference_branch(sampling), cache_read=CacheRead.FILLED
        )
        state.window_latents = config.window_latents - block
        noise = options.random(1, config.latent_channels, block, side, side)
        conditions = options.random(1, block, config.condition_channels)
        times = flow_times(sampling.num_steps, shift=sampling.timestep_shift, device=options.device)
        runtime = Runtime(
            name="eager",
            cache_read=CacheRead.FILLED,
            velocity=generator.velocity,
            guidance_velocities=generator.guidance_velocities,
            write_context=generator.write_context,
            decode_first=_no_decoder,
            decode=_no_decoder,
            batch_size=lambda num_rows: num_rows,
        )

        def run() -> None:
            denoise(noise, conditions, times, state, generator=generator, runtime=runtime, sampling=sampling)
            state.window_latents = config.window_latents - block
            generator.write_context(noise, state)
            state.window_latents = config.window_latents - block

        return run, FRAMES_PER_LATENT * block

    return make


def working_size(preset: Preset, options: Options) -> int:
    """What the VAE sees: with a warp always the same, whatever the size of the photograph that is bent."""
    return options.size_px if preset.vae.warp is None else preset.working_size


def wan_vae(options: Options) -> tuple[Run, int]:
    """Wan 2.1's VAE: /8 in space, /4 in time, 16 channels."""
    from diffusers import AutoencoderKLWan

    vae, side = randomised(AutoencoderKLWan, options), options.size_px // 8
    z = options.random(1, 16, 1 + (options.num_frames - 1) // 4, side, side)
    return lambda: vae.decode(z), options.num_frames


def ltx_vae(options: Options) -> tuple[Run, int]:
    """LTX-Video's VAE: /32 in space, /8 in time, 128 channels."""
    from diffusers import AutoencoderKLLTXVideo

    vae, side = randomised(AutoencoderKLLTXVideo, options), options.size_px // 32
    z = options.random(1, 128, 1 + (options.num_frames - 1) // 8, side, side)
    return lambda: vae.decode(z), options.num_frames


def stable_diffusion_step(options: Options) -> tuple[Run, int]:
    """One step of Stable Diffusion 1.5's UNet for one picture."""
    from diffusers import UNet2DConditionModel

    unet = randomised(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8), options)
    x, text = options.random(1, 4, options.size_px // 8, options.size_px // 8), options.random(1, 77, 768)
    flow_time = torch.full((1,), 500, device=options.device)
    return lambda: unet(x, flow_time, encoder_hidden_states=text), 1


def wav2lip_size(options: Options) -> tuple[Run, int]:
    """A generator of Wav2Lip's layout for one picture."""
    network = randomised(Wav2LipSize, options)
    face, sound = options.random(1, 6, 96, 96), options.random(1, 1, 80, 16)
    return lambda: network(face, sound), 1


def _no_decoder(*_: object) -> Tensor:
    raise AssertionError("generators are timed without their decoder")


class Wav2LipSize(nn.Module):
    """36M parameters: a U-Net whose middle is the sound's features (Prajwal et al. 2020, as its public weights are shaped)."""

    def __init__(self) -> None:
        super().__init__()
        down = ((6, 16, 0), (16, 32, 2), (32, 64, 3), (64, 128, 2), (128, 256, 2), (256, 512, 1))
        self.down = nn.ModuleList(
            nn.Sequential(
                conv(c_in, c_out, 7 if c_in == 6 else 3, 1 if c_in == 6 else 2), *(conv(c_out, c_out) for _ in range(more))
            )
            for c_in, c_out, more in down
        )
        self.down.append(nn.Sequential(conv(512, 512, 3, padding=0), conv(512, 512, 1)))
        self.hear = nn.Sequential(
            *(conv(*one) for one in ((1, 32), (32, 32), (32, 32))),
            conv(32, 64, 3, (3, 1)), conv(64, 64), conv(64, 64),
            conv(64, 128, 3, 3), conv(128, 128), conv(128, 128),
            conv(128, 256, 3, (3, 2)), conv(256, 256),
            conv(256, 512, 3, padding=0), conv(512, 512, 1),
        )  # fmt: skip
        up = ((1024, 512, 1), (1024, 512, 2), (768, 384, 2), (512, 256, 2), (320, 128, 2), (160, 64, 2))
        self.first = conv(512, 512, 1)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(c_in, c_out, 3, 1, 0)
                if i == 0
                else nn.ConvTranspose2d(c_in, c_out, 3, 2, 1, output_padding=1),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
                *(conv(c_out, c_out) for _ in range(more)),
            )
            for i, (c_in, c_out, more) in enumerate(up)
        )
        self.out = nn.Sequential(conv(80, 32), nn.Conv2d(32, 3, 1), nn.Sigmoid())

    def forward(self, face: Tensor, sound: Tensor) -> Tensor:
        """(1, 6, 96, 96), (1, 1, 80, 16) -> (1, 3, 96, 96)."""
        kept = []
        for layer in self.down:
            face = layer(face)
            kept.append(face)
        x = torch.cat([self.first(self.hear(sound)), kept.pop()], dim=1)
        for layer in self.up:
            x = torch.cat([layer(x), kept.pop()], dim=1)
        return self.out(x)


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int | tuple[int, int] = 1, padding: int | None = None) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    padding = kernel // 2 if padding is None else padding
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, padding), nn.BatchNorm2d(c_out), nn.ReLU())


PARTS = {
    "lite-decoder": Part(kind="decoder", what="this project's embedded preset: warps the photograph", make=our_decoder(lite())),
    "paper-decoder": Part(kind="decoder", what="the published method, /64 in space, /4 in time", make=our_decoder(paper())),
    "wan-vae": Part(kind="decoder", what="Wan 2.1, /8 in space, /4 in time", make=wan_vae),
    "ltx-vae": Part(kind="decoder", what="LTX-Video, /32 in space, /8 in time", make=ltx_vae),
    "lite-generator": Part(
        kind="generator", what=f"a block at the longest cache, {lite().sampling.num_steps} steps", make=our_generator(lite())
    ),
    "paper-generator": Part(
        kind="generator",
        what=f"a block at the longest cache, {paper().sampling.num_steps} steps of 3 branches",
        make=our_generator(paper()),
    ),
    "sd15-unet": Part(
        kind="generator",
        what="one step for one picture, no guidance: the core of MuseTalk (1 step), Hallo, EchoMIMIC (20 to 40 steps, guided)",
        make=stable_diffusion_step,
    ),
    "wav2lip-size": Part(kind="generator", what="the mouth only, in a face of 96 x 96, decoding included", make=wav2lip_size),
}


if __name__ == "__main__":
    main()
