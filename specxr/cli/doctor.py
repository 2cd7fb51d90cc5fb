"""The command that looks whether everything that specxr needs works on this machine."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

_REQUIRED = ("numpy", "scipy", "torch", "numba", "xarray", "zarr", "dask", "distributed", "pandas", "astropy")
_EXTRAS = {"s3": "obstore", "specutils": "specutils", "slurm": "dask-jobqueue", "dashboard": "bokeh"}


def doctor(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the write test; the temporary folder if not given.", show_default=False
        ),
    ] = None,
) -> None:
    """Look whether specxr works here: versions, cores, memory, GPU, a write test, and the fit of one star."""
    failed = 0
    for name, check in (
        ("versions", _versions), ("extras", _extras), ("machine", _machine), ("GPU", _gpu),
        ("store", lambda: _store(folder)), ("fit", _fit),
    ):  # fmt: skip
        failed += _tell(name, check)
    if failed:
        raise ValueError(
            f"{failed} of the checks above failed; none is required. Correct what they name, or ask with these lines."
        )


def _tell(name: str, check: Callable[[], Iterator[str]]) -> bool:
    """Print what a check finds; returns whether it failed."""
    try:
        for line in check():
            typer.echo(f"{name:9s} {line}")
    except Exception as error:  # what is broken here is what the user wants to know
        typer.echo(f"{name:9s} FAILED: {type(error).__name__}: {' '.join(str(error).split())}")
        return True
    return False


def _versions() -> Iterator[str]:
    yield f"specxr {version('specxr')}, Python {sys.version.split()[0]}, {platform.platform()}"
    words = [f"{name} {version(name)}" for name in _REQUIRED]
    yield ", ".join(words[:5])
    yield ", ".join(words[5:])


def _extras() -> Iterator[str]:
    found = []
    for extra, package in _EXTRAS.items():
        try:
            found.append(f"{extra} ({package} {version(package)})")
        except PackageNotFoundError:
            found.append(f"{extra}: not installed")
    yield ", ".join(found)


def _machine() -> Iterator[str]:
    import psutil
    from dask.utils import format_bytes

    from specxr.cubes.processes import check_limits, cores

    memory = psutil.virtual_memory()
    yield f"{cores()} cores, {format_bytes(memory.total)} of memory, {format_bytes(memory.available)} free"
    check_limits(cores())


def _gpu() -> Iterator[str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(count))
    yield f"{names}: --device cuda" if count else "none that torch can use; everything works on CPUs"


def _store(folder: Path | None) -> Iterator[str]:
    import numpy as np
    from dask.utils import format_bytes

    import specxr

    with tempfile.TemporaryDirectory(prefix="specxr-doctor-", dir=folder) as name:
        cube = specxr.make_cube(np.ones((64, 500)), None, np.arange(5000.0, 5500.0), medium="vacuum")
        specxr.write_cube(cube, Path(name) / "cube.zarr")
        again = specxr.open_cube(Path(name) / "cube.zarr").compute()
        if not np.array_equal(again["flux"], cube["flux"]):
            raise OSError(f"what was written to {name} is not what is read back; check this disk")
        free = format_bytes(shutil.disk_usage(name).free)
        yield f"a cube is written and read back in {Path(name).parent}, {free} free"


def _fit() -> Iterator[str]:
    import specxr
    from specxr.synthesis import simulate_survey

    star = simulate_survey(1, seed=0, snr=(100.0, 100.0)).load()
    lasp = specxr.LASP()
    specxr.infer(star, lasp)  # compiles what is not compiled yet
    start = time.perf_counter()
    labels = specxr.infer(star, lasp)
    seconds = time.perf_counter() - start
    teff, error, true = (float(x) for x in (labels["teff"][0], labels["teff_err"][0], star["true_teff"][0]))
    if abs(teff - true) > 10.0 * error + 50.0:
        raise ValueError(f"a simulated star of {true:.0f} K is fitted with {teff:.0f} +- {error:.0f} K")
    yield f"a simulated star of {true:.0f} K is fitted with {teff:.0f} +- {error:.0f} K in {1e3 * seconds:.0f} ms"
