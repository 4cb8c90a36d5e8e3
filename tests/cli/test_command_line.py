"""How commands are used: what they say of themselves, and what is wrong usage."""

import pytest

from tests.cli.program import tollkeeper
from tollkeeper_cli.__main__ import main


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("up", "--colour"),
        ("verify",),
        ("verify", "-", "--through", "0f5b0dd38c6c0a70"),
        ("verify", "-", "--data-dir", "."),
        ("keys", "create"),
        ("keys", "create", "--tenant", "t", "--user", "u", "--delegate"),
        ("keys", "create", "--tenant", ""),
        ("keys", "create", "--tenant", ".."),
        ("keys", "create", "--tenant", "a/b"),
        ("keys", "create", "--tenant", "Über"),
        ("keys", "create", "--tenant", "t", "--user", "a\nb"),
        ("keys", "create", "--tenant", "t", "--assistants", "fine, not fine"),
        ("keys", "revoke", "../x"),
        ("keys", "revoke", ""),
        ("up", "--gateway-port", "65536"),
        ("provider", "--key", "k"),
    ],
)
def test_wrong_usage_ends_with_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("keys",),
        *(("keys", name) for name in ("create", "list", "revoke")),
        *(
            (name,)
            for name in ("up", "export", "verify", "adjust", "refund", "reconcile", "what-if", "provider", "crds")
        ),
    ],
)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main((*command, "--help")) == 0
    assert "Usage: tollkeeper" in capsys.readouterr().out


@pytest.mark.slow  # two processes
def test_help_is_the_same_in_a_locale_without_letters() -> None:
    expected = tollkeeper("up", "--help").stdout
    assert tollkeeper("up", "--help", LANG="C", LC_ALL="C").stdout == expected
    assert "\x1b" not in expected
