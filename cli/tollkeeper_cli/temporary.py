"""A place for what libraries write into files for a moment, the cluster's private key among it.

Clients of Kubernetes hand keys to TLS as files in the system's temporary folder, and remove them at their end. A process
that is killed has no end: so ours lie in the data folder, readable by us alone, and the next start sweeps them.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tollkeeper.errors import Unavailable

FOLDER = "temporary"


@contextmanager
def swept_temporary_folder(data: Path) -> Iterator[None]:
    """Use `data/temporary` for temporary files until the end. The caller owns `data`: nobody else uses it meanwhile.

    Raises `Unavailable` where the folder cannot be made.
    """
    folder, before = data / FOLDER, tempfile.tempdir
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise Unavailable(
            f"{folder}: the folder cannot be made ({error.strerror}); see that {data} can be written, and what is there"
        ) from error
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
