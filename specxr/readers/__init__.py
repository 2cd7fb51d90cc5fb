"""Readers of survey files: one module for each survey, named in `SURVEYS`.

A reader module has ``SURVEY`` (name to print), ``GRID`` (the `Grid` that all spectra are placed on),
``FLUX_UNITS``, and ``read(path) -> Spectrum``, which raises `ReadError` where a file cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

SURVEYS = {"lamost-lrs": "specxr.readers.lamost_lrs"}


class ReadError(ValueError):
    """A file that holds no spectrum of the survey; the message is one line, without the name of the file."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One spectrum on the grid of its survey.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (wavelength,)
        Both 0 where there is no datum.
    mask : ndarray of uint8, shape (wavelength,)
        Bits of `specxr.vocabulary.MaskBit`.
    star : mapping
        ``obsid`` and what else the file says; the same names and types for every file of a survey.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint8]
    star: Mapping[str, int | float | str]


Outcome = tuple[Path, Spectrum | str]  # a file, and its spectrum or the reason why there is none


def read_files(survey: str, files: Sequence[Path]) -> list[Outcome]:
    """Read files of a survey; one that cannot be read has a one-line reason in the place of its spectrum."""
    read = reader(survey).read
    outcomes: list[Outcome] = []
    for file in files:
        try:
            outcomes.append((file, read(file)))
        except ReadError as error:
            outcomes.append((file, str(error)))
        except Exception as error:  # damage has no end of forms; one file must not stop a million others
            outcomes.append((file, f"{type(error).__name__}: {error}"))
    return outcomes


def reader(survey: str) -> ModuleType:
    """The reader module of a survey, by its name in `SURVEYS`."""
    if survey not in SURVEYS:
        raise ValueError(
            f"there is no reader for the survey {survey!r}; one of {', '.join(SURVEYS)} is required. "
            "Choose one of these, or add a reader module and name it in specxr.readers.SURVEYS."
        )
    return import_module(SURVEYS[survey])
