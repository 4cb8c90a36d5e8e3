"""The built files of others that the console serves: what they are, and whether they are what npm published.

`vendor.json` pins each package by name, version and npm's own `dist.integrity`, and each file by its digest (SRI). `python
-m tollkeeper_console.vendor --check` compares both: the files here with their digests, and, with npm at hand, the published
package with its integrity and its files with ours, byte for byte. Exit code 0: the same; 3: not; 1: could not be checked.
"""

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tollkeeper_console.errors import ConsoleError

ROOT = Path(__file__).parent / "static" / "vendor"
PINS = Path(__file__).parent / "vendor.json"
NPM_SECONDS = 120


@dataclass(frozen=True, slots=True)
class VendoredFile:
    """One file: where it is here (below `static/vendor`), where in the package (`None`: not from it), and its SRI."""

    file: str
    source: str | None
    sri: str


@dataclass(frozen=True, slots=True)
class VendoredPackage:
    """One npm package and the files of it that are served. `integrity` is npm's digest of the whole package."""

    name: str
    version: str
    license: str
    integrity: str
    files: tuple[VendoredFile, ...]


def pinned() -> tuple[VendoredPackage, ...]:
    """What `vendor.json` pins."""
    return tuple(
        VendoredPackage(**{**raw, "files": tuple(VendoredFile(**file) for file in raw["files"])})
        for raw in json.loads(PINS.read_text(encoding="utf-8"))
    )


def sri(content: bytes) -> str:
    """A file's digest as browsers and npm write it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def changed_files() -> list[str]:
    """The files here that are missing or differ from their pins, and those that nobody pinned."""
    pins = {file.file: file.sri for package in pinned() for file in package.files}
    here = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    unpinned = [f"{file}: is not in vendor.json" for file in sorted(here - pins.keys())]
    missing = [f"{file}: is missing" for file in sorted(pins.keys() - here)]
    differing = [f"{file}: differs from its pin" for file in sorted(here & pins.keys()) if _here(file) != pins[file]]
    return unpinned + missing + differing


def _here(file: str) -> str:
    return sri((ROOT / file).read_bytes())


def differences_from_npm() -> Iterator[str]:
    """What differs between the pins and what npm published. Raises `ConsoleError` when npm cannot be asked."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConsoleError("npm is not installed: the published packages cannot be compared; install npm")
    with tempfile.TemporaryDirectory(prefix="tollkeeper-vendor-") as folder:
        for package in pinned():
            yield from _differences(package, _packed(npm, package, Path(folder)))


def _packed(npm: str, package: VendoredPackage, folder: Path) -> Path:
    target = f"{package.name}@{package.version}"
    try:
        done = subprocess.run(
            [npm, "pack", "--silent", "--ignore-scripts", target],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=NPM_SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise ConsoleError(f"npm pack {target} failed: {error}; see that npm reaches its registry") from error
    return folder / done.stdout.strip().splitlines()[-1]


def _differences(package: VendoredPackage, archive: Path) -> Iterator[str]:
    if sri(archive.read_bytes()) != package.integrity:
        yield f"{package.name}@{package.version}: npm's package differs from its pinned integrity"
        return
    with tarfile.open(archive) as tar:
        for file in package.files:
            if file.source is None:
                continue
            published = tar.extractfile(f"package/{file.source}")
            if published is None or sri(published.read()) != file.sri:
                yield f"{package.name}@{package.version}: {file.source} differs from the pin of {file.file}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The check as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m tollkeeper_console.vendor",
        description="Compare the vendored files with their pins and with npm.",
    )
    parser.add_argument("--check", action="store_true", required=True, help="compare files, pins and npm's packages")
    parser.parse_args(arguments)
    try:
        wrong = [*changed_files(), *differences_from_npm()]
    except ConsoleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in wrong) or "vendored files are what npm published\n")
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
