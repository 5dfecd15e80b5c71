from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from vivavoz.config_json import to_plain
from vivavoz.engine.accounting import META, Report, Stage, account_decoder, account_encoder, decoder_cost, describe, render
from vivavoz.engine.model import Model
from vivavoz.presets import Preset, paper, tiny
from vivavoz.vae.vae import VAE


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture(scope="module", params=[False, True], ids=["paint", "warp"])
def preset(request: pytest.FixtureRequest) -> Preset:
    return tiny(warp=request.param)


@pytest.fixture(scope="module")
def report(preset: Preset) -> Report:
    return describe(preset)


def rows(report: Report, part: str) -> list[Stage]:
    return [stage for stage in report.stages if stage.part == part]


def test_every_parameter_is_counted_once(preset: Preset, report: Report) -> None:
    with META:
        model = Model(preset)
    assert report.parameters.encoder == num_parameters(model.vae.encoder)
    face_in = () if model.vae.face_in is None else (model.vae.face_in,)
    assert report.parameters.decoder == num_parameters(model.vae.d1, model.vae.fusion, model.vae.head, *face_in)
    assert report.parameters.generator == num_parameters(model.generator)
    assert report.parameters.audio == num_parameters(model.audio)
    assert sum(stage.parameters for stage in report.stages) == num_parameters(model)


def test_all_memory_of_a_stream_is_counted(preset: Preset, report: Report) -> None:
    model, latent_side = Model.initialised(preset), preset.working_size // 64
    expected = {
        "encoder": model.vae.init_encoder_state(1, preset.working_size, preset.working_size),
        "decoder": model.vae.init_decoder_state(1, latent_side, latent_side, 1),
        "generator": model.generator.init_state(1, (latent_side, latent_side), num_references=1),
        "audio": model.audio.init_state(1),
    }
    for part, state in expected.items():
        assert sum(stage.state_bytes for stage in rows(report, part)) == state.num_bytes


def test_a_convolution_costs_what_the_formula_says() -> None:
    """The decoder's first convolution, and the encoder's: 2 * K * k * k * C_in * C_out for every output place and frame."""
    with META:
        vae = VAE(tiny().vae)
    (conv_out,) = [stage for stage in account_decoder(vae, 128) if stage.name == "D2 out"]
    assert conv_out.gflop_per_frame == pytest.approx(2 * 27 * 4 * 3 * 128 * 128 / 1e9)
    (conv_in,) = [stage for stage in account_decoder(vae, 128) if stage.name == "D1 in"]
    assert conv_in.gflop_per_frame == pytest.approx(2 * 27 * 8 * 16 * 2 * 2 / 4 / 1e9)  # one latent, four pictures
    (conv_in,) = [stage for stage in account_encoder(vae, 64) if stage.name == "E1 in"]
    assert conv_in.gflop_per_frame == pytest.approx(2 * 27 * 3 * 4 * 64 * 64 / 1e9)


def test_the_generators_blocks_cost_what_the_formula_says() -> None:
    """Guided, 2 steps: the matrix products of a transformer over 4 new tokens behind 1 + 12 cached ones, summed by hand."""
    preset = tiny()
    config, block = preset.generator, 4
    width, inner, tokens = config.width, config.num_heads * config.head_dim, block
    dense = 2 * tokens * (width * 3 * inner + inner * width + 2 * config.mlp_ratio * width * width)
    attention = 2 * 2 * tokens * (1 + config.window_latents - block + tokens) * inner
    modulation = 2 * 6 * width * width  # one flow time for the whole block
    passes = 3 * preset.sampling.num_steps + 2  # three branches; the clean pass writes both contexts
    runs = preset.sampling.num_steps + 1  # the branches share the modulation
    expected = config.depth * (passes * (dense + attention) + runs * modulation) / (4 * block) / 1e9
    (blocks,) = [stage for stage in describe(preset).stages if stage.name == "2 blocks"]
    assert blocks.gflop_per_frame == pytest.approx(expected)


def test_without_guidance_there_is_one_branch_and_one_context() -> None:
    preset = tiny()
    plain = replace(preset, sampling=replace(preset.sampling, guidance_audio=1.0, guidance_reference=1.0))
    (guided,), (unguided,) = ([row for row in describe(p).stages if row.name == "2 blocks"] for p in (preset, plain))
    assert guided.state_bytes > 1.9 * unguided.state_bytes
    assert 2 < guided.gflop_per_frame / unguided.gflop_per_frame < 3


def test_compression_is_counted_on_tensors(preset: Preset, report: Report) -> None:
    assert report.compression_ratio == preset.vae.compression_ratio == 6144


def test_the_report_is_json_and_a_table(report: Report) -> None:
    data = json.loads(json.dumps(to_plain(report)))
    assert data["parameters"]["encoder"] == report.parameters.encoder
    assert {"encoder", "decoder", "generator", "audio"} == set(data["parameters"])
    assert data["compression_ratio"] == report.compression_ratio
    assert data["stages"][0]["part"] == "encoder"
    out = StringIO()
    Console(file=out, width=120).print(render(report))
    assert all(stage.name in out.getvalue() for stage in report.stages)
    assert f"{report.parameters.decoder:,}" in out.getvalue()


def test_the_papers_decoder() -> None:
    parameters, gflop = decoder_cost(paper().vae, 512)
    assert parameters == pytest.approx(406e6, rel=0.02)
    assert gflop == pytest.approx(766, rel=0.01)
