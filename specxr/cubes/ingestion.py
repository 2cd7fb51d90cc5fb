"""Survey files in, a cube out: parallel over files, a block of stars in memory at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from specxr.cubes.draft import Draft
from specxr.cubes.group import open_group
from specxr.cubes.growth import settle
from specxr.cubes.layout import choose_layout, layout_of
from specxr.cubes.locations import PathLike, reported, staged
from specxr.cubes.lock import hold, no_writer
from specxr.cubes.processes import check_importable, cores
from specxr.cubes.reading import read_tasks
from specxr.cubes.schema import grid_of
from specxr.cubes.store import open_cube
from specxr.readers.base import Failure, Reader, SurveyBlock
from specxr.readers.registry import open_reader
from specxr.vocabulary import SPECTRA, VARIABLES, WAVELENGTH

STARS_PER_TASK = 100
_BYTES_PER_PIXEL = sum(np.dtype(VARIABLES[name].dtype).itemsize for name in SPECTRA)
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")
_SHOWN = 10  # files that a message names
_CHOICES = {
    "mode": ("create", "overwrite", "append"),
    "duplicates": ("refuse", "keep_last"),
    "existing": ("refuse", "skip"),
}


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Parameters
    ----------
    path : str or Path
        The cube.
    n_written : int
        Number of stars that were added to it; all of them where it is new.
    failures : list of (file, reason)
        Files that hold no spectrum of the survey, or are damaged.
    replaced : list of (file, file)
        For each star that was replaced by a later one of the same obsid: its file, and that of the later one.
    skipped : list of file
        For each star whose obsid was in the cube before: its file.
    remarks : list of (file, remark)
        Files that were read, but of which something should be known.
    seconds : float
        Time that it took [s].
    """

    path: str | Path
    n_written: int
    failures: list[Failure]
    replaced: list[tuple[Path, Path]]
    skipped: list[Path]
    remarks: list[Failure]
    seconds: float


def ingest(
    survey: str | Reader,
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    mode: Literal["create", "overwrite", "append"] = "create",
    duplicates: Literal["refuse", "keep_last"] = "refuse",
    existing: Literal["refuse", "skip"] = "refuse",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Read spectra of a survey into a new cube, or add them to the end of one.

    The files are read in processes of their own: a script calls this under ``if __name__ == "__main__":``.

    Parameters
    ----------
    survey : str or Reader
        Name of a reader, such as ``"lamost-lrs"`` (`specxr.readers.registry.survey_names` lists them), or a reader
        with other settings, such as ``dataclasses.replace(open_reader("lamost-lrs"), max_bytes=10**9)``.
    paths : path-like or iterable of path-like
        Files, and folders that are searched through, in the order of the stars of the cube; the files of a
        folder are sorted by name.
    out : path-like
        The cube, a folder or a URL such as ``s3://bucket/cube.zarr``; it, or what is added, appears once it is
        complete.
    mode : {"create", "overwrite", "append"}, optional
        "create" makes a new cube, "overwrite" may replace one, with the labels in it, and "append" adds stars to a
        cube of the same survey. Its stars and their labels then stay as they are; `specxr.run` fits the new ones.
    duplicates : {"refuse", "keep_last"}, optional
        What is done where several of the stars have one obsid.
    existing : {"refuse", "skip"}, optional
        What is done with stars whose obsid is in the cube already.
    workers : int, optional
        Number of processes; as many as there are cores by default. 1 reads in this process.
    progress : callable, optional
        It is called with the numbers of files done and of all files, after each task of some files.

    Returns
    -------
    IngestReport

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError
        A path does not exist, `out` exists, nothing can be read, or an obsid appears twice. Nothing is written then.
    BlockingIOError
        Another process appends to the cube, or writes labels of a run to one that is to be replaced.
    """
    start = time.perf_counter()
    _check_options(mode=mode, duplicates=duplicates, existing=existing)
    reader = open_reader(survey) if isinstance(survey, str) else survey
    files = find_files(paths)
    record = _Record()
    opened = (
        _appended(out, reader) if mode == "append" else _new(out, reader, len(files), mode == "overwrite")
    )
    with opened as draft:
        for done, block in _read_all(survey, reader, files, workers):
            record.take_in(block, draft)
            if progress is not None:
                progress(done, len(files))
        _check_some_read(reader.survey, record)
        if duplicates == "refuse":
            _check_duplicates(record.replaced)
        if existing == "refuse":
            _check_existing(out, record.skipped)
        n_stars, n_used = len(record.sources), len(set(record.sources))
        name = survey if isinstance(survey, str) else reader.survey
        draft.finish(f"specxr ingest {name}: {n_stars} stars of {n_used} of {len(files)} files")
    return IngestReport(
        out if isinstance(out, str) else Path(out),
        n_stars,
        record.failures,
        record.replaced,
        record.skipped,
        record.remarks,
        time.perf_counter() - start,
    )


@dataclass
class _Record:
    """What became of each file and star so far."""

    sources: list[Path] = field(default_factory=list)  # file of each new star
    failures: list[Failure] = field(default_factory=list)
    replaced: list[tuple[Path, Path]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    remarks: list[Failure] = field(default_factory=list)
    row_of: dict[int, int] = field(default_factory=dict)  # place of each new obsid

    def take_in(self, block: SurveyBlock, draft: Draft) -> None:
        """Add the new stars of a block to the draft, replace those that it has already, and note the others."""
        self.failures += block.failures
        self.remarks += block.remarks
        if not len(block):
            return
        obsid = np.asarray(block.stars["obsid"], dtype="int64")
        new: list[int] = []
        later: list[tuple[int, int]] = []
        for place, (number, known) in enumerate(zip(obsid.tolist(), draft.has(obsid), strict=True)):
            source = block.sources[place]
            if known:
                self.skipped.append(source)
            elif (row := self.row_of.setdefault(number, len(self.sources))) == len(self.sources):
                self.sources.append(source)
                new.append(place)
            else:
                self.replaced.append((self.sources[row], source))
                self.sources[row] = source
                later.append((row, place))
        draft.add(block.take(new))
        for row, place in later:
            draft.replace(row, block.take([place]))


def find_files(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """List files among `paths`, and FITS files in the folders among them, each once.

    Raises
    ------
    FileNotFoundError, ValueError
        A path does not exist, or there is no file.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.name.lower().endswith(_SUFFIXES))
        elif path.exists():
            inside = [path]
        else:
            raise FileNotFoundError(
                f"{path} does not exist; files or folders of spectra are required. Check the path."
            )
        # Not Path.resolve, which raises where links go round in a circle.
        files |= {os.path.realpath(file): file for file in inside}
    if not files:
        raise ValueError(
            f"no file in {', '.join(map(str, paths)) or 'an empty list of paths'} ends in "
            f"{', '.join(_SUFFIXES)}; at least one spectrum is required. Check the path."
        )
    return list(files.values())


@contextmanager
def _new(out: PathLike, reader: Reader, n_files: int, overwrite: bool) -> Iterator[Draft]:
    size = reader.grid.wavelength.size * _BYTES_PER_PIXEL
    with staged(out, overwrite) as path, no_writer(out):
        yield Draft(path, reader, choose_layout(n_files * reader.stars_per_file, size))


@contextmanager
def _appended(out: PathLike, reader: Reader) -> Iterator[Draft]:
    with hold(out, "stars") as lock, reported(out):
        settle(out)
        cube = open_cube(out)
        if cube.attrs.get("survey") != reader.survey or grid_of(cube) != reader.grid:
            raise ValueError(
                f"{out} holds spectra of {cube.attrs.get('survey', 'a survey that it does not name')} on "
                f"{cube.sizes[WAVELENGTH]} pixels; a cube of {reader.survey} on {reader.grid.wavelength.size} is "
                "required, to which such spectra can be appended. Ingest them into a cube of their own."
            )
        yield Draft(out, reader, layout_of(open_group(out)), cube["obsid"].values, lock.beat)


def _read_all(
    survey: str | Reader, reader: Reader, files: Sequence[Path], workers: int | None
) -> Iterator[tuple[int, SurveyBlock]]:
    """Blocks in the order of the files, each with the number of files done; few are in memory at a time."""
    size = max(1, STARS_PER_TASK // max(1, reader.stars_per_file))
    tasks = [files[i : i + size] for i in range(0, len(files), size)]
    done = 0
    workers = min(workers or cores(), len(tasks))
    if workers > 1:
        check_importable("ingest")
    for blocks in read_tasks(survey, tasks, workers):
        done = min(done + size, len(files))
        for block in blocks:
            yield done, block


def _check_options(**options: str) -> None:
    for name, value in options.items():
        if value not in _CHOICES[name]:
            raise ValueError(
                f"{name} is {value!r}; one of {', '.join(_CHOICES[name])} is required. Choose one of these."
            )


def _check_some_read(survey: str, record: _Record) -> None:
    if not record.sources and not record.skipped:
        file, reason = record.failures[0] if record.failures else (Path(), "it holds no star")
        raise ValueError(
            f"none of {len(record.failures)} files can be read (the first, {file}: {reason}); at least one "
            f"spectrum of {survey} is required. Check the path and the survey."
        )


def _check_duplicates(replaced: list[tuple[Path, Path]]) -> None:
    if replaced:
        shown = "; ".join(f"{first} and {second}" for first, second in replaced[:_SHOWN])
        raise ValueError(
            f"{len(replaced)} stars have an obsid that another star has ({shown}"
            f"{'; ...' if len(replaced) > _SHOWN else ''}); each obsid once is required. Leave files out, or keep the "
            "last star of each obsid with duplicates='keep_last' (--replace-duplicates)."
        )


def _check_existing(out: PathLike, skipped: list[Path]) -> None:
    if skipped:
        shown = "; ".join(map(str, skipped[:_SHOWN])) + ("; ..." if len(skipped) > _SHOWN else "")
        raise ValueError(
            f"{len(skipped)} stars have an obsid that is in {out} already ({shown}); stars that are not in it are "
            "required. Leave their files out, or skip them with existing='skip' (--skip-existing)."
        )
