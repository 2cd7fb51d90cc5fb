"""What a reader of a survey is: it turns files into blocks of arrays on the survey's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint16]
    star: Mapping[str, int | float | str]


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
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint16]
    stars: Mapping[str, NDArray[Any]]
    sources: Sequence[Path]
    failures: Sequence[Failure] = field(default=())

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, stars: slice | Sequence[int]) -> SurveyBlock:
        """Return the block of these stars, without failures."""
        index = np.arange(len(self))[stars]
        return SurveyBlock(
            self.flux[index],
            self.ivar[index],
            self.mask[index],
            {name: values[index] for name, values in self.stars.items()},
            [self.sources[i] for i in index],
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

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files in their order.

        A file that is no spectrum of the survey, or is damaged, is one of the failures of a block and does not stop
        the others. Each file is either read as a whole or is a failure.
        """


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
    for file in files:
        try:
            spectra.append(read(file))
            sources.append(file)
        except ReadError as error:
            failures.append((file, str(error)))
        except Exception as error:  # nobody foresees all damage, and one file must not stop a million others
            failures.append((file, " ".join(f"{type(error).__name__}: {error}".split())))
    pixels = [
        np.array([getattr(s, name) for s in spectra], dtype=VARIABLES[name].dtype).reshape(-1, n_pixel)
        for name in SPECTRA
    ]
    names = spectra[0].star if spectra else {}
    stars = {name: _column([s.star[name] for s in spectra]) for name in names}
    yield SurveyBlock(pixels[0], pixels[1], pixels[2], stars, sources, failures)


def _column(values: list[int | float | str]) -> NDArray[Any]:
    # Strings as objects: an array of fixed length would cut the longer ones that replace them.
    return np.array(values, dtype=object if isinstance(values[0], str) else None)
