"""Make sure that the browser tests have a Chromium: installed from the system's packages when that can be done, else said how.

Run by `make test`. Never fails: without a browser those tests are skipped with the line to type.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CANDIDATES = ("chromium", "chromium-browser", "google-chrome")
DEBIAN_LINE = "apt-get update && apt-get install -y --no-install-recommends chromium"
OTHER_LINE = "install Chromium with your system's package manager, so that `chromium` is on the PATH"
LOCK_SECONDS = "120"


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next((found for name in CANDIDATES if (found := shutil.which(name))), None)


def remedy() -> str:
    """The exact line to type where there is none."""
    return DEBIAN_LINE if is_debian() else OTHER_LINE


def is_debian() -> bool:
    """Whether the system's packages are Debian's or Ubuntu's."""
    release = Path("/etc/os-release")
    text = release.read_text() if release.is_file() else ""
    return shutil.which("apt-get") is not None and (
        "ID=debian" in text or "ID=ubuntu" in text or "ID_LIKE=debian" in text
    )


def main() -> None:
    """Install it when this is root on Debian or Ubuntu; say what happens either way."""
    if chromium():
        return
    if not (is_debian() and os.geteuid() == 0):
        print(f"no Chromium: the browser tests will be skipped. To have them: {remedy()}", file=sys.stderr)
        return
    print(f"no Chromium: as root on Debian or Ubuntu, running: {DEBIAN_LINE}", flush=True)
    quiet = ["-qq", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"]
    install = ["install", "-y", "--no-install-recommends", "chromium"]
    for step in (["update"], install):
        done = subprocess.run(["apt-get", *quiet, *step], stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            print(f"apt-get {step[0]} ended with {done.returncode}: the browser tests will be skipped", file=sys.stderr)
            return


if __name__ == "__main__":
    main()
