"""What a reader of a survey is: it turns files into blocks of arrays on the survey's own grid."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specxr.readers.columns import variable_of
from specxr.spectra.grid import Grid
from specxr.vocabulary import SPECTRA, VARIABLES

Failure = tuple[Path, str]  # a file, and the reason in one line why it cannot be used


class ReadError(ValueError):
    """A file that holds no spectrum of the survey; the message is one line, without the name of the file."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One spectrum on the grid of its survey.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (wavelength,)
        Flux and inverse variance; both are 0 where there is no datum.
    mask : ndarray of uint16, shape (wavelength,)
        Bits of `specxr.vocabulary.MaskBit`.
    star : mapping
        ``obsid`` and everything else that the file says of the star; the same names and types for every file of a
        survey.
    remark : str, optional
        What somebody who looks through the cube should know of this file, in one line.
    width : ndarray of float32, shape (wavelength,), optional
        Line spread (sigma) [km/s], NaN where it is not known; None for a survey whose files do not say it.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint16]
    star: Mapping[str, int | float | str]
    remark: str = ""
    width: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class SurveyBlock:
    """Spectra of some stars on the grid of their survey, and the files that gave none.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (star, wavelength)
        Flux and inverse variance; both are 0 where there is no datum.
    mask : ndarray of uint16, shape (star, wavelength)
        Bits of `specxr.vocabulary.MaskBit`.
    stars : mapping of str to ndarray, shape (star,)
        ``obsid`` (int64) and everything else that the survey says of each star, named as in the vocabulary where it
        has a name; the same names and kinds in each block of a survey.
    sources : sequence of Path
        File of each star.
    failures : sequence of (Path, str), optional
        Files that cannot be used, each with the reason in one line.
    remarks : sequence of (Path, str), optional
        Files that are used, but of which something should be known.
    width : ndarray of float32, shape (star, wavelength), optional
        Line spread (sigma) [km/s] of each star, NaN where it is not known; None for a survey whose files do not say
        it. The cube gets its mean over the stars, in place of the line spread of the reader's grid.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint16]
    stars: Mapping[str, NDArray[Any]]
    sources: Sequence[Path]
    failures: Sequence[Failure] = field(default=())
    remarks: Sequence[Failure] = field(default=())
    width: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, stars: slice | Sequence[int]) -> SurveyBlock:
        """Return the block of these stars, without failures and remarks."""
        index = np.arange(len(self))[stars]
        return SurveyBlock(
            self.flux[index],
            self.ivar[index],
            self.mask[index],
            {name: values[index] for name, values in self.stars.items()},
            [self.sources[i] for i in index],
            width=None if self.width is None else self.width[index],
        )


class Reader(Protocol):
    """What `specxr.ingest` needs to know of a survey; an entry point of the group ``specxr.readers`` names one."""

    @property
    def survey(self) -> str:
        """Name of the survey, to print; it becomes an attribute of the cube."""

    @property
    def grid(self) -> Grid:
        """Grid that all spectra are placed on."""

    @property
    def flux_units(self) -> str:
        """Units of the flux."""

    @property
    def stars_per_file(self) -> int:
        """Number of stars in a file, roughly: it decides how many files are read at a time."""

    @property
    def max_bytes(self) -> int:
        """Size of the largest file that is read [bytes], packed or unpacked: what `file_content` is given."""

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order.

        A file that is no spectrum of the survey, or is damaged, is one of the failures of a block and does not stop
        the others. Each file is either read as a whole or is a failure.
        """


def file_content(path: Path, max_bytes: int) -> bytes:
    """Content of a regular file, unpacked if it is gzipped, in bounded time and memory.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Size of the largest file that is read [bytes], packed or unpacked.

    Raises
    ------
    ReadError
        The file is none, is too large, cannot be read, is damaged gzip, or has a name that a cube cannot store.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise ReadError(
            "the name of the file is not UTF-8; a cube stores names as UTF-8: rename it"
        ) from error
    try:
        # A pipe would be waited for, and a device never ends.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ReadError("not a regular file (but a folder, a pipe or a device)")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
        # The first bytes decide, not the name: archives rename and unpack their files.
        if content[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(content[:max_bytes])) as unpacked:
                content = unpacked.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ReadError(f"truncated or damaged gzip: {error}") from error
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error
    if len(content) > max_bytes:
        raise ReadError(f"larger than {max_bytes / 1e6:,.3g} MB, the most that is read (--max-file-size)")
    return content


def _reason(error: Exception) -> str:
    """Why a file cannot be used, in one line."""
    return (
        str(error) if isinstance(error, ReadError) else " ".join(f"{type(error).__name__}: {error}".split())
    )


def read_one_by_one(
    files: Sequence[Path], read: Callable[[Path], Spectrum], n_pixel: int
) -> Iterator[SurveyBlock]:
    """Read files that hold one star each, as one block.

    Parameters
    ----------
    files : sequence of Path
    read : callable
        It reads one file, and raises `ReadError` if that is not possible.
    n_pixel : int
        Number of pixels of the survey's grid.
    """
    spectra: list[Spectrum] = []
    sources: list[Path] = []
    failures: list[Failure] = []
    remarks: list[Failure] = []
    for file in files:
        try:
            spectra.append(read(file))
            sources.append(file)
            if spectra[-1].remark:
                remarks.append((file, spectra[-1].remark))
        except Exception as error:  # nobody foresees all damage, and one file must not stop a million others
            failures.append((file, _reason(error)))
    pixels = [
        np.array([getattr(s, name) for s in spectra], dtype=VARIABLES[name].dtype).reshape(-1, n_pixel)
        for name in SPECTRA
    ]
    stars = star_columns([s.star for s in spectra])
    widths = [s.width for s in spectra if s.width is not None]
    width = np.array(widths) if widths else None
    yield SurveyBlock(pixels[0], pixels[1], pixels[2], stars, sources, failures, remarks, width)


def read_files_of_many(
    files: Sequence[Path], read: Callable[[Path], SurveyBlock], n_pixel: int
) -> Iterator[SurveyBlock]:
    """Read files that hold several stars each, as a block for each file, and one of the files that cannot be used.

    Parameters
    ----------
    files : sequence of Path
    read : callable
        It reads one file, and raises `ReadError` if that is not possible.
    n_pixel : int
        Number of pixels of the survey's grid.
    """
    failures: list[Failure] = []
    for file in files:
        try:
            block = read(file)
        except Exception as error:  # as above
            failures.append((file, _reason(error)))
        else:
            yield block
    if failures:
        none = np.empty((0, n_pixel), "f4")
        yield SurveyBlock(none, none, none.astype("u2"), {}, [], failures)


def star_columns(stars: Sequence[Mapping[str, int | float | str]]) -> dict[str, NDArray[Any]]:
    """Variables of stars as arrays of shape (star,), in the types of the vocabulary."""
    return {name: _column(name, [star[name] for star in stars]) for name in (stars[0] if stars else ())}


def _column(name: str, values: list[int | float | str]) -> NDArray[Any]:
    if isinstance(values[0], str):
        # Strings as objects: an array of fixed length would cut the longer ones that replace them.
        return np.array(values, dtype=object)
    # The type is that of the variable, or one odd value would decide the type of all.
    variable = variable_of(name)
    return np.array(values, dtype=variable.dtype if variable is not None else type(values[0]))
