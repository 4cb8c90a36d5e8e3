"""Settings that cannot be: wrong usage (exit code 2), one line that names file and field, and nothing is started."""

import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import yaml

from tests.e2e.programs import PROGRAM
from tollkeeper.errors import Unavailable
from tollkeeper_cli.__main__ import main
from tollkeeper_cli.listening import require_free_ports
from tollkeeper_cli.logs import renderer
from tollkeeper_cli.settings import Settings
from tollkeeper_cli.temporary import swept_temporary_folder

SERVERS = ("gateway", "gateway_metrics", "webhook", "webhook_health", "operator", "console")
FREE = dict.fromkeys(SERVERS, 0)
UPSTREAM = {"openai": {"url": "http://127.0.0.1:9", "key": {"env": "A_PROVIDER_KEY"}}}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """`up` sets up the logs of its process, which here is that of all tests."""
    handlers, level, configured = logging.root.handlers[:], logging.root.level, structlog.get_config()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.configure(**configured)


def up(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and the one line of a `tollkeeper up` that does not start."""
    code = main(("up", "--config", str(config)))
    (line,) = capsys.readouterr().err.splitlines()
    return code, line


def settings(**changed: int) -> Settings:
    """Settings with free ports, but for what is changed."""
    return Settings.model_validate({"ports": FREE | changed})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upstreams: {openai: {url: nowhere, key: {env: X}}}", "write one such as https://api.openai.com, without /v1"),
        ("upstreams: {open ai: {url: 'http://x', key: {env: X}}}", "upstreams.open ai: 'open ai' is not a name: write"),
        ("upstreams: {openai: {url: 'http://x'}}", "upstreams.openai.key: it is missing"),
        ("upstreams: {openai: {url: 'http://x', key: {}}}", "name exactly one of env and file"),
        ("ports: {console: 99999}", "ports.console: 99999 is not a port: write a whole number"),
        ("portz: {}", "portz: there is no such setting"),
        ("[1, 2]", "the file: it is not a mapping"),
        ("[]", "the file: it is not a mapping"),
        ("a: [", "it is not YAML"),
        ("", "no upstreams: name a provider in the settings file (--config)"),
        ("\x00", "it is not YAML"),
        (
            "upstreams: {openai: {url: 'http://x', key: {env: A_PROVIDER_KEY}}}\nports: {gateway: 9, console: 9}",
            "ports.gateway and ports.console are both 9",
        ),
        (
            "upstreams: {openai: {url: 'http://x', key: {env: NOBODY_SET_THIS}}}",
            "upstreams.openai.key: the environment variable NOBODY_SET_THIS is empty or not set",
        ),
        (
            "upstreams: {openai: {url: 'http://x', key: {file: /no/such/key}}}",
            "upstreams.openai.key: /no/such/key cannot be read (No such file or directory)",
        ),
    ],
)
def test_wrong_settings_are_wrong_usage_and_named_by_their_field(
    tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_PROVIDER_KEY", "k")
    config = tmp_path / "settings.yaml"
    config.write_text(text)
    code, line = up(config, capsys)
    assert code == 2
    assert says in line


def test_a_settings_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, binary = tmp_path / "missing.yaml", tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe")
    assert up(missing, capsys) == (
        2,
        f"Error: {missing}: it cannot be read (No such file or directory); name another with --config",
    )
    assert up(binary, capsys) == (
        2,
        f"Error: {binary}: it cannot be read (it is not UTF-8 text); name another with --config",
    )


def test_settings_are_the_same_input_for_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("portz: {}")
    assert main(("export", "--config", str(config))) == 2
    assert "portz" in capsys.readouterr().err


def test_free_ports_and_ports_of_choice_are_no_problem() -> None:
    require_free_ports(settings(), "127.0.0.1")


@pytest.mark.parametrize("server", SERVERS)
def test_a_taken_port_is_named_with_the_option_that_moves_it(server: str) -> None:
    option = f"--{server.replace('_', '-')}-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as raised:
            require_free_ports(settings(**{server: port}), "127.0.0.1")
    assert str(raised.value) == (
        f"{server.replace('_', ' ')}: cannot listen on 127.0.0.1:{port}: the port is taken; choose another with "
        f"{option} or ports.{server} (0 takes a free one), or end what listens there"
    )


def test_a_taken_port_ends_up_before_it_writes_anything(tmp_path: Path) -> None:
    config, data = tmp_path / "settings.yaml", tmp_path / "data"
    config.write_text(yaml.safe_dump({"upstreams": UPSTREAM, "storage": {"directory": str(data)}, "ports": FREE}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [PROGRAM, "up", "--config", config, "--console-port", port], env={**os.environ, "A_PROVIDER_KEY": "k"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"Error: console: cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not data.exists()


def test_an_address_that_is_not_this_machines_is_named_with_its_option() -> None:
    with pytest.raises(Unavailable, match=r"webhook: cannot listen on 203\.0\.113\.7:0: .* \(--webhook-host\)$"):
        require_free_ports(settings(), "203.0.113.7")


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_a_terminal_gets_colours_unless_they_are_not_wanted(environment: dict[str, str], coloured: bool) -> None:
    line = renderer(True, environment)(None, "info", {"event": "ready", "level": "info"})
    assert ("\x1b[" in line) is coloured


def test_a_data_folder_in_which_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "temporary").touch()
    with (
        pytest.raises(Unavailable, match=r"temporary: the folder cannot be made \(File exists\)"),
        swept_temporary_folder(tmp_path),
    ):
        pass
