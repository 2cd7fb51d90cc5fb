"""Readers by the name of their survey: entry points, so that anybody can add a survey."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from specxr.readers.base import Reader, ReadError, SurveyBlock
from specxr.vocabulary import SPECTRA

_GROUP = "specxr.readers"


def survey_names() -> list[str]:
    """Names of the surveys that can be read, sorted."""
    return sorted(entry_points(group=_GROUP).names)


def open_reader(survey: str) -> Reader:
    """Open the reader of a survey.

    Parameters
    ----------
    survey : str
        Name of an entry point of the group ``specxr.readers``, such as ``"lamost-lrs"``.

    Raises
    ------
    ValueError
        No installed package has a reader of this name.
    """
    readers = entry_points(group=_GROUP)
    if survey not in readers.names:
        raise ValueError(
            f"there is no reader for the survey {survey!r}; one of {', '.join(survey_names())} is required. Choose one "
            f"of these, or install a package with an entry point '{survey}' of the group '{_GROUP}'."
        )
    reader: Reader = readers[survey].load()
    return reader


def read_files(survey: str | Reader, files: Sequence[Path]) -> list[SurveyBlock]:
    """Read files of a survey; an error that its reader does not foresee costs one file only.

    Parameters
    ----------
    survey : str or Reader
        Name of the survey, or its reader.
    files : sequence of Path

    Returns
    -------
    list of SurveyBlock
        Blocks in the order of the files.
    """
    reader = open_reader(survey) if isinstance(survey, str) else survey
    try:
        blocks = list(reader.read(files))
    except Exception as error:
        if len(files) > 1:
            return [block for file in files for block in read_files(survey, [file])]
        reason = str(error) if isinstance(error, ReadError) else f"{type(error).__name__}: {error}"
        return [_without_stars(reader, files[0], " ".join(reason.split()))]
    for block in blocks:
        _check_block(block, reader)
    return blocks


def _without_stars(reader: Reader, file: Path, reason: str) -> SurveyBlock:
    none = np.empty((0, reader.grid.wavelength.size), "f4")
    return SurveyBlock(none, none, none.astype("u2"), {}, [], [(file, reason)])


def _check_block(block: SurveyBlock, reader: Reader) -> None:
    """Raise ``TypeError`` where a reader does not keep its contract: that is a fault of its author."""
    shape = (len(block.sources), reader.grid.wavelength.size)
    shapes = {name: getattr(block, name).shape for name in SPECTRA}
    columns = {name: values.shape for name, values in block.stars.items()}
    if set(shapes.values()) != {shape} or any(size != shape[:1] for size in columns.values()):
        raise TypeError(
            f"the reader of {reader.survey} gave arrays of shapes {shapes | columns} for {shape[0]} stars; {shape} is "
            "required for the pixels and one value of each column for each star. Correct the reader."
        )
    if len(block) and np.asarray(block.stars.get("obsid", "")).dtype.kind not in "iu":
        raise TypeError(
            f"the reader of {reader.survey} gave no integer 'obsid' (columns: {', '.join(columns)}); an identifier of "
            "each star is required. Correct the reader."
        )
