"""Survey files in, a cube out: parallel over files, a block of stars in memory at a time."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
import xarray as xr

from specxr import store
from specxr.cube import make_cube
from specxr.readers import Outcome, Spectrum, read_files, reader
from specxr.vocabulary import STAR, WAVELENGTH

FILES_PER_TASK = 100
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Report:
    """What an ingest did.

    Parameters
    ----------
    path : Path
        The cube.
    n_written : int
        Stars in it.
    failures : list of (file, reason)
        Files that hold no spectrum of the survey, or are damaged.
    replaced : list of (file, file)
        Files whose obsid a later file, the second, has too, and which it replaced.
    seconds : float
    """

    path: Path
    n_written: int
    failures: list[tuple[Path, str]]
    replaced: list[tuple[Path, Path]]
    seconds: float


def ingest(
    survey: str,
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    overwrite: bool = False,
    replace_duplicates: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read spectra of a survey into a new cube.

    The files are read in processes of their own: a script calls this under ``if __name__ == "__main__":``.

    Parameters
    ----------
    survey : str
        Name of a reader in `specxr.readers.SURVEYS`, such as ``"lamost-lrs"``.
    paths : path-like or iterable of path-like
        Files, and folders that are searched through, in the order of the stars of the cube; the files of a
        folder are sorted by name.
    out : path-like
        The cube; it appears once it is complete.
    overwrite : bool, optional
        Replace a cube, with the labels in it.
    replace_duplicates : bool, optional
        Where several files have one obsid, keep the last one; refused otherwise.
    workers : int, optional
        Processes; as many as there are cores by default. 1 reads in this process.
    progress : callable, optional
        Called with the number of files done and of all files.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError
        Where a path does not exist, `out` exists, nothing can be read, or an obsid appears twice. Nothing is
        written then.
    """
    start = time.perf_counter()
    module = reader(survey)
    files = find_files(paths)
    failures: list[tuple[Path, str]] = []
    duplicates: list[tuple[Path, Path]] = []
    row_of: dict[int, int] = {}
    sources: list[Path] = []
    with store.staged(out, overwrite) as path:
        draft = _Draft(path, module)
        for done, (file, outcome) in enumerate(_read_all(survey, files, workers), 1):
            if isinstance(outcome, str):
                failures.append((file, outcome))
            elif (row := row_of.setdefault(outcome.star["obsid"], len(sources))) == len(sources):
                draft.add(outcome)
                sources.append(file)
            else:
                duplicates.append((sources[row], file))
                draft.replace(row, outcome)
                sources[row] = file
            if progress is not None:
                progress(done, len(files))
        _check_outcome(module.SURVEY, sources, failures, [] if replace_duplicates else duplicates)
        draft.finish(f"specxr ingest {survey}: {len(sources)} of {len(files)} files")
    return Report(Path(out), len(sources), failures, duplicates, time.perf_counter() - start)


def find_files(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Files among `paths`, and FITS files in the folders among them, each once."""
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.name.lower().endswith(_SUFFIXES))
        elif path.exists():
            found = [path]
        else:
            raise FileNotFoundError(
                f"{path} does not exist; files or folders of spectra are required. Check the path."
            )
        files |= {file.resolve(): file for file in found}
    if not files:
        raise ValueError(
            f"no file in {', '.join(map(str, paths)) or 'an empty list of paths'} ends in "
            f"{', '.join(_SUFFIXES)}; at least one spectrum is required. Check the path."
        )
    return list(files.values())


class _Draft:
    """A cube in the making: whole blocks of stars are on disk, the last one is in memory."""

    def __init__(self, path: Path, module: ModuleType):
        self.path = path
        self.module = module
        self.pending: list[Spectrum] = []
        self.stars: list[xr.Dataset] = []  # of the blocks on disk: what is known of each star

    def add(self, spectrum: Spectrum) -> None:
        self.pending.append(spectrum)
        if len(self.pending) == store.STAR_CHUNK:
            self._flush()

    def replace(self, row: int, spectrum: Spectrum) -> None:
        block, place = divmod(row, store.STAR_CHUNK)
        if block == len(self.stars):
            self.pending[place] = spectrum
            return
        store.put_star(self.path, row, {name: getattr(spectrum, name) for name in store.PIXEL_VARIABLES})
        for name, value in spectrum.star.items():
            self.stars[block][name].values[place] = value

    def finish(self, history: str) -> None:
        if self.pending:
            self._flush()
        stars = xr.concat(self.stars, STAR)
        stars.attrs |= {"survey": self.module.SURVEY, "history": history}
        if "data_release" in stars:
            stars.attrs["data_release"] = ", ".join(sorted(set(stars["data_release"].values) - {""}))
        store.put_star_variables(self.path, stars)

    def _flush(self) -> None:
        names = self.pending[0].star
        columns = {name: np.array([spectrum.star[name] for spectrum in self.pending]) for name in names}
        pixels = {name: np.stack([getattr(s, name) for s in self.pending]) for name in store.PIXEL_VARIABLES}
        block = make_cube(
            **pixels,
            grid=self.module.GRID,
            obsid=columns.pop("obsid"),
            flux_units=self.module.FLUX_UNITS,
            stars=columns,
        )
        store.append_stars(self.path, block, store.STAR_CHUNK)
        self.stars.append(block.drop_dims(WAVELENGTH))
        self.pending = []


def _read_all(survey: str, files: Sequence[Path], workers: int | None) -> Iterator[Outcome]:
    """Outcomes in the order of the files; few are in memory at a time."""
    tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
    workers = min(workers or _cores(), len(tasks))
    if workers == 1:
        for task in tasks:
            yield from read_files(survey, task)
        return
    # Not fork: the threads of Zarr and torch do not survive it.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: deque[Future[list[Outcome]]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(read_files, survey, task))
                if len(running) > 2 * workers:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that reads files ended early; processes that can import the calling script are "
                'required. Call ingest under `if __name__ == "__main__":`, or with workers=1.'
            ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_outcome(
    survey: str,
    sources: list[Path],
    failures: list[tuple[Path, str]],
    duplicates: list[tuple[Path, Path]],
) -> None:
    if not sources:
        file, reason = failures[0]
        raise ValueError(
            f"none of {len(failures)} files can be read (the first, {file}: {reason}); at least one "
            f"spectrum of {survey} is required. Check the path and the survey."
        )
    if duplicates:
        shown = "; ".join(f"{first} and {second}" for first, second in duplicates[:10])
        raise ValueError(
            f"{len(duplicates)} files have an obsid that another file has ({shown}"
            f"{'; ...' if len(duplicates) > 10 else ''}); each obsid once is required. "
            "Leave files out, or keep the last of each with replace_duplicates=True (--replace-duplicates)."
        )
