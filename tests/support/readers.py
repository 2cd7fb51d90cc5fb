"""Readers for tests of what happens when processes that read files, or their parent, die."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from specxr.readers.lamost_lrs import LamostLRS


@dataclass(frozen=True)
class Fatal(LamostLRS):
    """Reads LAMOST files; at a file of the name ``end.fits`` the process, or its parent, is killed.

    Each process that reads leaves a file of the name of its number in `folder`.
    """

    folder: str = "."
    whom: str = "itself"

    def read(self, files):
        Path(self.folder, str(os.getpid())).touch()
        if any(file.name == "end.fits" for file in files):
            os.kill(os.getpid() if self.whom == "itself" else os.getppid(), signal.SIGKILL)
        yield from super().read(files)
