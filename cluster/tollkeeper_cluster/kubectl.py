"""Kubectl as a function: the program that belongs to a cluster, run against that cluster alone."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tollkeeper_cluster.errors import KubectlError


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs `kubectl ARGUMENTS` with `environment` laid over this process's own.

    `kubectl("get", "pods", namespace="a")`; `input` goes to its standard input. Raises KubectlError with what kubectl
    said when it fails, unless `check=False`; raises subprocess.TimeoutExpired after `timeout_seconds`.
    """

    program: Path
    environment: Mapping[str, str]
    timeout_seconds: float = 60.0

    def __call__(
        self,
        *arguments: str,
        namespace: str | None = None,
        input: str | None = None,  # noqa: A002 - as in subprocess.run
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run it, and return its exit status and output as text."""
        command = [str(self.program), *([f"--namespace={namespace}"] if namespace else []), *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            # Without input, an empty one: kubectl must not read the terminal of whoever runs the tests.
            input=input or "",
            capture_output=True,
            text=True,
            timeout=self.timeout_seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done
