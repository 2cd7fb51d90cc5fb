"""A reader of another package: text files with a line of the star, and then flux and its standard error."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from specxr import Grid, LineSpread
from specxr.readers.base import ReadError, Spectrum, SurveyBlock, file_content, read_one_by_one
from specxr.vocabulary import MaskBit

# All spectra of the survey are on these pixels, and its lines are as broad as those of an R of 1,800.
GRID = Grid.regular(4000.0 * 10.0 ** (1e-4 * np.arange(200)), "air", LineSpread.constant(1800.0))


class ToySurvey:
    """What specxr asks of a survey (`specxr.readers.base.Reader`)."""

    survey = "Toy"
    grid = GRID
    flux_units = "1e-17 erg / (s cm2 Angstrom)"
    stars_per_file = 1
    max_bytes = 1_000_000

    def read(self, files: Sequence[Path]) -> Iterator[SurveyBlock]:
        """Read files; one that cannot be used is a failure with its reason, and does not stop the others."""
        return read_one_by_one(files, self._spectrum, GRID.wavelength.size)

    def _spectrum(self, file: Path) -> Spectrum:
        # file_content refuses pipes, devices and files of gigabytes, and unpacks gzip.
        first, *rows = file_content(file, self.max_bytes).decode("ascii", "replace").splitlines()
        if not first.startswith("# toy "):
            raise ReadError("the first line does not begin with '# toy'")
        number, ra, dec, snr = first.removeprefix("# toy ").split()
        flux, error = np.array([row.split() for row in rows], dtype="f4").T
        if flux.size != GRID.wavelength.size:
            raise ReadError(f"{flux.size} pixels; the survey has {GRID.wavelength.size}")
        good = np.isfinite(flux) & (error > 0)
        star = {
            "obsid": int(number),
            "ra": float(ra),
            "dec": float(dec),
            "snr": float(snr),
            "file": file.name,
        }
        return Spectrum(
            flux=np.where(good, flux, 0),
            ivar=np.divide(1.0, error**2, where=good, out=np.zeros_like(error)),
            mask=np.where(good, 0, int(MaskBit.NO_IVAR)).astype("u2"),
            star=star,
        )


READER = ToySurvey()
