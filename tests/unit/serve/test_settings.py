from __future__ import annotations

import pytest

from vivavoz.cli import main
from vivavoz.errors import ConfigError
from vivavoz.serve.settings import ServeSettings, help_of_fields, is_loopback, settings_from


def test_flags_come_before_the_environment_before_defaults() -> None:
    environment = {
        "VIVAVOZ_TOKEN": "t",
        "VIVAVOZ_PORT": "9",
        "VIVAVOZ_MAX_SESSION_S": "7.5",
        "VIVAVOZ_HOST": "0.0.0.0",
        "PORT": "1",
    }
    settings = settings_from({"port": 10, "host": None}, environment)
    assert (settings.port, settings.host, settings.token, settings.max_session_s) == (10, "0.0.0.0", "t", 7.5)
    assert settings.max_sessions == ServeSettings(token="t").max_sessions


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no token"),
        ({"VIVAVOZ_NO_AUTH": "1", "VIVAVOZ_HOST": "0.0.0.0"}, "loopback"),
        ({"VIVAVOZ_NO_AUTH": "1", "VIVAVOZ_HOST": "example.org"}, "loopback"),
        ({"VIVAVOZ_NO_AUTH": "perhaps"}, "VIVAVOZ_NO_AUTH"),
        ({"VIVAVOZ_TOKEN": "t", "VIVAVOZ_PORT": "http"}, "VIVAVOZ_PORT"),
        ({"VIVAVOZ_TOKEN": "t", "VIVAVOZ_BLOCK_LATENTS": "3"}, "block_latents"),
        ({"VIVAVOZ_TOKEN": "t", "VIVAVOZ_MAX_SESSIONS": "-1"}, "max_sessions"),
        ({"VIVAVOZ_TOKEN": "t", "VIVAVOZ_RUNTIME": "magic"}, "VIVAVOZ_RUNTIME"),
    ],
)
def test_what_cannot_be_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_from({}, environment)


def test_without_a_token_only_this_machine_is_served() -> None:
    assert settings_from({"no_auth": True}, {}).no_auth
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")] == [True] * 5
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")] == [False] * 5


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    for name, text in help_of_fields().items():
        assert f"--{name.replace('_', '-')} " in shown
        assert text in shown


def test_a_server_without_a_token_does_not_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIVAVOZ_TOKEN", raising=False)
    assert main(["serve"]) == 2
    assert "no token" in capsys.readouterr().err
