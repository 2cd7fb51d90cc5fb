"""Survey files in, a cube out: parallel over files, a block of stars in memory at a time."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.growth import declare_cube, settle, write_beyond
from specxr.cubes.layout import Layout, choose_layout, describe_layout, layout_of, star_bytes
from specxr.cubes.locations import staged
from specxr.cubes.lock import hold
from specxr.cubes.schema import grid_of, make_cube, set_flux_units
from specxr.cubes.store import open_cube, open_group
from specxr.readers import Outcome, Spectrum, read_files, reader
from specxr.vocabulary import SPECTRA, STAR, VARIABLES, WAVELENGTH

FILES_PER_TASK = 100
_BYTES_PER_PIXEL = sum(np.dtype(VARIABLES[name].dtype).itemsize for name in SPECTRA)
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Report:
    """What an ingest did.

    Parameters
    ----------
    path : str or Path
        The cube.
    n_written : int
        Stars that were added to it; all of them where it is new.
    failures : list of (file, reason)
        Files that hold no spectrum of the survey, or are damaged.
    replaced : list of (file, file)
        Files whose obsid a later file, the second, has too, and which it replaced.
    skipped : list of file
        Files whose obsid was in the cube before.
    seconds : float
    """

    path: str | Path
    n_written: int
    failures: list[tuple[Path, str]]
    replaced: list[tuple[Path, Path]]
    skipped: list[Path]
    seconds: float


def ingest(
    survey: str,
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    overwrite: bool = False,
    append: bool = False,
    replace_duplicates: bool = False,
    skip_existing: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Read spectra of a survey into a new cube, or add them to the end of one.

    The files are read in processes of their own: a script calls this under ``if __name__ == "__main__":``.

    Parameters
    ----------
    survey : str
        Name of a reader in `specxr.readers.SURVEYS`, such as ``"lamost-lrs"``.
    paths : path-like or iterable of path-like
        Files, and folders that are searched through, in the order of the stars of the cube; the files of a
        folder are sorted by name.
    out : path-like
        The cube, a folder or a URL such as ``s3://bucket/cube.zarr``; it, or what is added, appears once it is
        complete.
    overwrite : bool, optional
        Replace a cube, with the labels in it.
    append : bool, optional
        Add stars to a cube of the same survey. Its stars and their labels stay as they are; `specxr.run` then fits
        the new ones.
    replace_duplicates : bool, optional
        Where several of the files have one obsid, keep the last one; refused otherwise.
    skip_existing : bool, optional
        Leave out files whose obsid is in the cube already; refused otherwise.
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
    BlockingIOError
        Another process appends to the cube.
    """
    start = time.perf_counter()
    if append and overwrite:
        raise ValueError("both append and overwrite were asked for; one is required at most. Leave one out.")
    module = reader(survey)
    files = find_files(paths)
    failures: list[tuple[Path, str]] = []
    duplicates: list[tuple[Path, Path]] = []
    skipped: list[Path] = []
    row_of: dict[int, int] = {}
    sources: list[Path] = []
    with _appended(out, module) if append else _new(out, module, len(files), overwrite) as draft:
        for done, (file, outcome) in enumerate(_read_all(survey, files, workers), 1):
            if isinstance(outcome, str):
                failures.append((file, outcome))
            elif draft.has(outcome):
                skipped.append(file)
            elif (row := row_of.setdefault(outcome.star["obsid"], len(sources))) == len(sources):
                draft.add(outcome)
                sources.append(file)
            else:
                duplicates.append((sources[row], file))
                draft.replace(row, outcome)
                sources[row] = file
            if progress is not None:
                progress(done, len(files))
        _check_outcome(
            module.SURVEY, [*sources, *skipped], failures, [] if replace_duplicates else duplicates
        )
        _check_skipped(out, [] if skip_existing else skipped)
        draft.finish(f"specxr ingest {survey}: {len(sources)} of {len(files)} files")
    return Report(
        out if isinstance(out, str) else Path(out),
        len(sources),
        failures,
        duplicates,
        skipped,
        time.perf_counter() - start,
    )


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


@contextmanager
def _new(out: PathLike, module: ModuleType, n_files: int, overwrite: bool) -> Iterator[_Draft]:
    size = module.GRID.wavelength.size * _BYTES_PER_PIXEL
    with staged(out, overwrite) as path:
        yield _Draft(path, module, choose_layout(n_files, size))


@contextmanager
def _appended(out: PathLike, module: ModuleType) -> Iterator[_Draft]:
    with hold(out, "stars") as lock:
        n_stars = settle(out)
        cube = open_cube(out)
        if cube.attrs.get("survey") != module.SURVEY or grid_of(cube) != module.GRID:
            raise ValueError(
                f"{out} holds spectra of {cube.attrs.get('survey', 'a survey that is not said')} on "
                f"{cube.sizes[WAVELENGTH]} pixels; spectra of {module.SURVEY} on {module.GRID.wavelength.size} are "
                "to be appended, which needs a cube of the same. Ingest them into a cube of their own."
            )
        yield _Draft(out, module, layout_of(open_group(out)), n_stars, cube["obsid"].values, lock.beat)


class _Draft:
    """Stars that are added to a cube: whole blocks are on disk beyond its end, the last one is in memory."""

    def __init__(
        self,
        path: PathLike,
        module: ModuleType,
        layout: Layout,
        n_before: int = 0,
        obsid_before: NDArray[np.int64] | None = None,
        beat: Callable[[], None] = lambda: None,
    ):
        self.path, self.module, self.layout, self.n_before, self.beat = path, module, layout, n_before, beat
        self.obsid_before = np.sort(np.empty(0, "int64") if obsid_before is None else obsid_before)
        self.pending: list[Spectrum] = []
        self.stars: list[xr.Dataset] = []  # of the blocks on disk: what is known of each star
        self.starts: list[int] = []  # of these blocks, counted from the first new star
        self.n_flushed = 0

    def has(self, spectrum: Spectrum) -> bool:
        """Whether the cube had this star before."""
        place = np.searchsorted(self.obsid_before, spectrum.star["obsid"])
        return bool(place < len(self.obsid_before) and self.obsid_before[place] == spectrum.star["obsid"])

    def add(self, spectrum: Spectrum) -> None:
        self.pending.append(spectrum)
        if (self.n_before + self.n_flushed + len(self.pending)) % self.layout.block == 0:
            self._flush()

    def replace(self, row: int, spectrum: Spectrum) -> None:
        if row >= self.n_flushed:
            self.pending[row - self.n_flushed] = spectrum
            return
        star = self._block([spectrum])
        write_beyond(self.path, star[list(SPECTRA)].reset_coords(drop=True), self.n_before + row)
        block = bisect_right(self.starts, row) - 1
        for name, value in spectrum.star.items():
            self.stars[block][name].values[row - self.starts[block]] = value

    def finish(self, history: str) -> None:
        if self.pending:
            self._flush()
        if not self.stars:
            return
        stars = xr.concat(self.stars, STAR)
        group = open_group(self.path, "r+")
        _check_variables(
            self.path, set(group.array_keys()), {*map(str, stars.variables), WAVELENGTH, *SPECTRA}
        )
        write_beyond(self.path, stars, self.n_before)
        settle(self.path, self.n_before + self.n_flushed)
        attrs = {"survey": self.module.SURVEY, "history": history}
        if self.n_before:
            attrs["history"] = f"{group.attrs.get('history', '')}; {history}"
        if "data_release" in stars:
            releases = {*str(group.attrs.get("data_release", "")).split(", "), *stars["data_release"].values}
            attrs["data_release"] = ", ".join(sorted(releases - {""}))
        group.attrs.update(attrs)

    def _flush(self) -> None:
        self.beat()
        block = self._block(self.pending)
        if self.n_before == self.n_flushed == 0:
            described = describe_layout(self.layout, star_bytes(block))
            declare_cube(self.path, block.assign_attrs(storage=described), self.layout)
        pixels = block[list(SPECTRA)].reset_coords(drop=True)
        write_beyond(self.path, pixels, self.n_before + self.n_flushed)
        self.stars.append(block.drop_dims(WAVELENGTH))
        self.starts.append(self.n_flushed)
        self.n_flushed += len(self.pending)
        self.pending = []

    def _block(self, spectra: list[Spectrum]) -> xr.Dataset:
        columns = {name: np.array([spectrum.star[name] for spectrum in spectra]) for name in spectra[0].star}
        pixels = {name: np.stack([getattr(s, name) for s in spectra]) for name in SPECTRA}
        cube = make_cube(
            pixels["flux"],
            pixels["ivar"],
            self.module.GRID,
            mask=pixels["mask"],
            obsid=columns.pop("obsid"),
            stars=columns,
        )
        return set_flux_units(cube, self.module.FLUX_UNITS)


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


def _check_skipped(out: PathLike, skipped: list[Path]) -> None:
    if skipped:
        shown = "; ".join(map(str, skipped[:10])) + ("; ..." if len(skipped) > 10 else "")
        raise ValueError(
            f"{len(skipped)} files have an obsid that is in {out} already ({shown}); stars that are not in it are "
            "required. Leave the files out, or skip them with skip_existing=True (--skip-existing)."
        )


def _check_variables(path: PathLike, stored: set[str], new: set[str]) -> None:
    if stored != new:
        raise ValueError(
            f"the variables of {path} and of the stars to be appended differ ({', '.join(sorted(stored ^ new))}); "
            "the same ones are required. Ingest the stars into a cube of their own."
        )
