"""`tollkeeper provider`: what it is given is checked first."""

from pathlib import Path

import pytest

from tollkeeper_cli.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", ""), "the key is empty; give one with --key"),
        (("--key", "k", "--prices", "missing.yaml"), "prices missing.yaml: cannot be read: No such file or directory"),
    ],
)
def test_what_a_provider_is_given_is_checked_before_anything_is_tried(
    tmp_path: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("provider", *arguments, "--book", str(tmp_path / "book"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
