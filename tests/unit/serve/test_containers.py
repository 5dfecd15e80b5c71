"""What the Dockerfile and the compose file say, against what there is: no container is built here."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path
from string import Template
from typing import Any

import pytest

from vivavoz.cli.main import main
from vivavoz.serve.settings import PREFIX, ServeSettings, settings_from
from vivavoz.serve.webrtc import parse_ice_servers

ROOT = Path(__file__).resolve().parents[3]
FIELDS = {field.name for field in dataclasses.fields(ServeSettings)}
SECRETS = {"VIVAVOZ_TOKEN": "one", "TURN_PASSWORD": "two", "PUBLIC_IP": "203.0.113.7"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def given(name: str) -> list[str]:
    return [rest.strip() for one, rest in instructions() if one == name]


@pytest.fixture
def services() -> dict[str, Any]:
    """The compose file's services, with the variables that its head asks for."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"${\1}", (ROOT / "compose.yaml").read_text())
    services: dict[str, Any] = pytest.importorskip("yaml").safe_load(Template(text).substitute(SECRETS))["services"]
    return services


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert patterns[0] == "*"
    for copied in given("COPY"):
        *sources, _ = shlex.split(copied)
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, pattern[1:]) for pattern in patterns if pattern.startswith("!"))


def test_what_the_package_is_built_of_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for one in given("COPY") for source in shlex.split(one)[:-1]}
    named = [project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"]
    named += [Path(path).parts[0] for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    assert copied >= set(named)
    (extra,) = re.findall(r"pip install .*\[(\w+)\]", "\n".join(given("RUN")))
    assert extra in project["project"]["optional-dependencies"]
    (torch,) = [one.partition("=")[2] for one in given("ARG") if one.startswith("TORCH=")]
    assert torch == re.search(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]  # type: ignore[index]


def test_what_is_started_is_a_command_and_its_port_is_the_one_that_is_asked() -> None:
    (entry,) = given("ENTRYPOINT")
    program, *arguments = json.loads(entry)
    assert program in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--help"])
    environment = dict(one.split("=", 1) for one in given("ENV"))
    settings = settings_from({}, {**environment, "VIVAVOZ_TOKEN": "one"})
    assert settings.host == "0.0.0.0"
    assert given("EXPOSE") == [str(settings.port)]
    (health,) = given("HEALTHCHECK")
    assert f"http://127.0.0.1:{settings.port}/healthz" in health
    (python, flag, code) = json.loads(health.partition("CMD ")[2])
    compile(code, "healthcheck", "exec")
    assert (python, flag) == ("python", "-c")


def test_the_compose_file_sets_what_there_is_to_set(services: dict[str, Any]) -> None:
    server, turn = services["vivavoz"], services["coturn"]
    environment = server["environment"]
    assert {name.removeprefix(PREFIX).lower() for name in environment} <= FIELDS
    settings = settings_from({}, {**environment, "VIVAVOZ_HOST": "0.0.0.0"})
    stun, turned = parse_ice_servers(settings.ice_servers)
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in turn["command"])
    address = f"{SECRETS['PUBLIC_IP']}:{flags['listening-port']}"
    assert (stun.urls, turned.urls) == (f"stun:{address}", f"turn:{address}")
    assert f"{turned.username}:{turned.credential}" == flags["user"]
    assert flags["external-ip"] == SECRETS["PUBLIC_IP"]
    assert int(flags["min-port"]) < int(flags["max-port"])
    assert server["network_mode"] == turn["network_mode"] == "host"  # else ports would have to be mapped
    assert (ROOT / server["build"] / "Dockerfile").exists()


def test_the_head_of_the_compose_file_names_all_that_has_to_be_set() -> None:
    head, _, body = (ROOT / "compose.yaml").read_text().partition("services:")
    assert set(re.findall(r"\$\{(\w+)", body)) == set(SECRETS)
    assert all(f"{name}=" in head for name in SECRETS)
    for first, last in re.findall(r"UDP (\d+)-(\d+)", head):
        assert f"--min-port={first}" in body
        assert f"--max-port={last}" in body
