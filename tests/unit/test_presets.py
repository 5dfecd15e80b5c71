from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vivavoz.errors import ConfigError
from vivavoz.presets import PRESETS, Preset, SamplingConfig, lite, paper, preset_by_name, tiny


def test_the_paper_preset_is_the_papers() -> None:
    preset = paper()
    assert (preset.working_size, preset.output_size) == (512, 512)
    assert preset.sampling == SamplingConfig(
        num_steps=12, timestep_shift=5.0, guidance_audio=2.0, guidance_reference=2.0, block_latents=4
    )
    assert preset.vae.warp is None
    assert not preset.generator.controls


def test_the_lite_preset_shows_more_than_it_sees() -> None:
    preset = lite()
    assert preset.working_size < preset.output_size == 512
    assert preset.vae.warp is not None
    assert not preset.sampling.is_guided


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_found_by_name(name: str) -> None:
    assert preset_by_name(name).name == name


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="'huge'; expected one of paper, lite, tiny"):
        preset_by_name("huge")


@pytest.mark.parametrize("preset", [paper(), lite(), tiny(), tiny(warp=True)])
def test_json_round_trip(preset: Preset) -> None:
    assert Preset.from_json(preset.to_json()) == preset


def changed_json(*path: str, value: object) -> str:
    """The lite preset's JSON with one value set."""
    data = json.loads(lite().to_json())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not a preset"),
        ("[1]", "no format_version"),
        (changed_json("format_version", value=2), "format version 2, expected 1"),
        (changed_json("colour", value=1), "unknown key 'colour' in preset"),
        (changed_json("vae", "warp", "colour", value=1), "unknown key 'colour' in preset.vae.warp"),
        (changed_json("vae", "fusion_blocks", value="2"), "preset.vae.fusion_blocks is '2', expected a value of type int"),
        (changed_json("vae", "residual", value=1), "preset.vae.residual is 1, expected a value of type bool"),
        (changed_json("vae", "decoder1_channels", value=[1]), "preset.vae.decoder1_channels is .*, expected a list of 2 values"),
        (changed_json("vae", "decoder1_channels", value=[1, None]), r"preset.vae.decoder1_channels\[1\] is None"),
        (changed_json("generator", value=None), "preset.generator is None, expected an object"),
        (changed_json("sampling", "block_latents", value=3), "block_latents is 3, expected one of"),
        (changed_json("sampling", "num_steps", value=0), "num_steps is 0, expected at least 1"),
    ],
)
def test_json_that_is_no_preset_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Preset.from_json(text)


def test_missing_keys_take_defaults_where_there_are_any() -> None:
    data = json.loads(lite().to_json())
    del data["vae"]["residual"]
    assert Preset.from_json(json.dumps(data)) == lite()
    del data["working_size"]
    with pytest.raises(ConfigError, match="preset lacks the key 'working_size'"):
        Preset.from_json(json.dumps(data))


def test_whole_numbers_pass_for_fractions() -> None:
    assert Preset.from_json(changed_json("sampling", "guidance_audio", value=2)).sampling.guidance_audio == 2.0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"working_size": 100}, "working_size is 100, expected a positive multiple of 64"),
        ({"output_size": 513}, "output_size is 513, expected an even number"),
        ({"vae": tiny().vae, "posed_jaws": ()}, "takes a reference warp"),
        ({"vae": tiny(warp=True).vae}, "takes a VAE whose frame codes are the 22 labels, this one has 3"),
        ({"posed_jaws": (0.0, 1.5)}, "expected at most 3 numbers from 0 to 1"),
        ({"posed_jaws": (0.0, 0.2, 0.4, 0.6)}, "expected at most 3 numbers from 0 to 1"),
        ({"generator": tiny().generator}, "differ: make them equal"),
        ({"audio": tiny().audio}, "features of the audio encoder"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(lite(), **changes)


def test_blocks_longer_than_the_generators_are_refused() -> None:
    short = replace(lite().generator, block_latents=2)
    with pytest.raises(ConfigError, match=r"sampling.block_latents is 4, but the generator makes blocks of at most 2"):
        replace(lite(), generator=short)


@pytest.mark.parametrize(
    "changes", [{"timestep_shift": 0.0}, {"guidance_audio": float("nan")}, {"guidance_reference": -1.0}, {"num_steps": -3}]
)
def test_sampling_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        replace(SamplingConfig(), **changes)
