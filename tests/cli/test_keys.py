"""`tollkeeper keys` without a cluster."""

from pathlib import Path

import pytest

from tollkeeper_cli.__main__ import main


def test_a_key_that_is_given_for_its_id_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("keys", "revoke", "tk_0123456789ab_secret")) == 2
    said = capsys.readouterr().err
    assert "secret" not in said
    assert "the part between the first two _" in said


@pytest.mark.parametrize(
    ("kubeconfig", "says"),
    [
        (None, "there is no such file"),
        (b"not: [yaml", "while parsing a flow sequence"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b"kind: Config", "Expected key current-context"),
    ],
)
def test_a_kubeconfig_that_is_none_is_named(
    tmp_path: Path, kubeconfig: bytes | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kubeconfig"
    if kubeconfig is not None:
        file.write_bytes(kubeconfig)
    assert main(("keys", "list", "--kubeconfig", str(file))) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Error: no connection from {file}: ")
    assert says in said
    assert said.endswith("name a context with --context, or a file with KUBECONFIG")
