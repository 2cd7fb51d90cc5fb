"""Names of dimensions, variables, labels, mask bits, flags and result codes: each is declared here, once.

``python -m specxr.vocabulary`` prints the page ``docs/reference/labels.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np

STAR = "star"
WAVELENGTH = "wavelength"
LABEL, LABEL_ = "label", "label_"

SPEED_OF_LIGHT = 299792.458  # km/s, exact

MEDIA = ("vacuum", "air")
SAMPLINGS = ("log10", "linear")

CUBE_SCHEMA_VERSION = 2
MASK_DTYPE = "uint16"


@dataclass(frozen=True)
class Label:
    """One quantity inferred from a spectrum.

    Parameters
    ----------
    name, units : str
    long_name : str
        A name to print.
    limit : bool, optional
        Whether a value at the end of the range that was searched is a limit, as the slowest rotation that can be seen
        is, and leaves the other labels good. Of the labels that shape the whole spectrum it does not.
    """

    name: str
    units: str
    long_name: str
    limit: bool = True

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes of the variable that holds the label."""
        return {"units": self.units, "long_name": self.long_name}

    @property
    def error_attrs(self) -> dict[str, str]:
        """Attributes of the variable ``<label>_err``."""
        return {"units": self.units, "long_name": f"standard error of {self.long_name}"}

    def interval_attrs(self, end: str) -> dict[str, str]:
        """Attributes of ``<label>_lo95`` or ``<label>_hi95``; `end` is "lower" or "upper"."""
        return {"units": self.units, "long_name": f"{end} end of the 95 % interval of {self.long_name}"}


# Elements whose abundances over iron are labels.
_ELEMENTS = (
    "C", "N", "O", "Na", "Mg", "Al", "Si", "P", "S", "K", "Ca", "Ti", "V", "Cr", "Mn", "Co", "Ni", "Cu", "Ce",
)  # fmt: skip

LABELS: dict[str, Label] = {
    label.name: label
    for label in (
        Label("rv", "km/s", "radial velocity", limit=False),
        Label("teff", "K", "effective temperature", limit=False),
        Label("logg", "dex", "logarithm of the surface gravity in cm/s2", limit=False),
        Label("feh", "dex", "[Fe/H]", limit=False),
        Label("sigma", "km/s", "Gaussian line broadening, instrument and rotation together", limit=False),
        Label("vsini", "km/s", "projected rotational velocity"),
        Label("vmic", "km/s", "microturbulent velocity"),
        Label("feh_niu", "dex", "[Fe/H] on the scale of Niu et al. (2023)", limit=False),
        Label("alpha_m", "dex", "[alpha/M]"),
        *(Label(f"{name.lower()}_fe", "dex", f"[{name}/Fe]") for name in _ELEMENTS),
        Label("ci_fe", "dex", "[C/Fe] from lines of the atom"),
        Label("tiii_fe", "dex", "[Ti/Fe] from Ti II"),
    )
}

# Labels that a fit may begin with, and what they are called as inputs of an estimator.
START = ("teff", "logg", "feh")
START_INPUTS = tuple(f"start_{name}" for name in START)


class MaskBit(IntFlag):
    """Bits of ``mask(star, wavelength)``; 0 is a good pixel.

    The reader of a survey maps the survey's own bits to these.
    """

    MISSING = 1  # the spectrum does not reach this pixel
    NO_IVAR = 2  # the inverse variance is zero, negative or infinite: the pixel is not to be used
    BAD_FLUX = 4  # the flux is not finite
    BAD_ALWAYS = 8  # the survey flags it in every exposure (LAMOST ANDMASK)
    BAD_ONCE = 16  # the survey flags it in at least one exposure (LAMOST ORMASK)
    SKY = 32  # near a bright or badly subtracted sky line
    TELLURIC = 64  # telluric absorption
    INTERSTELLAR = 128  # interstellar absorption or emission


# Pixels without a usable flux: nobody takes them.
UNUSABLE = MaskBit.MISSING | MaskBit.NO_IVAR | MaskBit.BAD_FLUX
# What trainings leave out, and fits whose option mask_bits says nothing else: also what is not of the star, and what
# the survey flags. With the latter in the fit, labels of LAMOST scatter twice as much (docs/measured/masks.md).
LEFT_OUT = (
    UNUSABLE | MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE | MaskBit.SKY | MaskBit.TELLURIC | MaskBit.INTERSTELLAR
)


class Result(IntEnum):
    """How the fit of one star ended."""

    CONVERGED = 0
    MAX_ITER = 1
    OUT_OF_BOUNDS = 2
    NON_FINITE = 3
    TOO_FEW_PIXELS = 4
    NEGATIVE_SHAPE = 5
    SINGULAR = 6
    NOT_FITTED = 255

    @property
    def advice(self) -> str:
        """One line that says what the code means and what to do."""
        return _RESULT_ADVICE[self]


_RESULT_ADVICE = {
    Result.CONVERGED: "the fit converged inside the bounds",
    Result.MAX_ITER: "no convergence within the evaluations that are allowed; look at the spectrum and its model",
    Result.OUT_OF_BOUNDS: "a label that shapes the whole spectrum ended on a bound; the star lies outside what the "
    "emulator covers",
    Result.NON_FINITE: "flux or model is not finite or the median flux is not positive; no labels are given",
    Result.TOO_FEW_PIXELS: "fewer good pixels than the fit needs; no labels are given",
    Result.NEGATIVE_SHAPE: "the shape polynomial is not positive everywhere; the labels are not to be trusted",
    Result.SINGULAR: "these pixels do not tell the labels apart; errors are not given",
    Result.NOT_FITTED: "the run has not come to this star, or its block is in quarantine; call the run again",
}


class Flag(IntFlag):
    """Bits of ``flags(star)``: reasons for care; 0 is none."""

    EDGE_OF_GRID = 1  # a label that shapes the whole spectrum lies at a bound of the emulator
    OUTSIDE_TRAINING = 2  # outside the domain that the emulator or estimator was trained on
    NEGATIVE_SHAPE = 4  # the shape polynomial is zero or negative somewhere
    FEW_PIXELS = 8  # more than half of the pixels are masked
    CLEAN_DISAGREES = 16  # Clean and No Clean differ by more than their errors
    STAGES_DISAGREE = 32  # the fit of the shape-corrected spectrum differs by more than its errors
    AT_REGIME_BOUNDARY = 64  # within 1 % of a temperature where the emulator changes regime
    LABEL_AT_LIMIT = 128  # a label such as vsini lies at an end of its range: a limit, see the variable limit
    POOR_FIT = 256  # the model leaves residuals that noise does not explain
    LOW_SNR = 512  # too little signal to tell a star from noise
    AT_VELOCITY_BOUND = 1024  # the velocity or the width of the lines is at the end of what was searched
    LOW_COVERAGE = 2048  # the usable pixels span too little of the window of the fit
    EMISSION = 4096  # lines in emission
    NO_LINES = 8192  # the lines of the model explain nothing of the spectrum
    LARGE_ERRORS = 16384  # the errors are too large for the labels to say anything
    UNCALIBRATED_ERRORS = 32768  # the S/N lies outside that of the stars by which the errors are calibrated


# A star with none of these may be recommended. A boundary of the emulator or a limit of one label is no fault.
DISTRUST = (
    Flag.EDGE_OF_GRID
    | Flag.OUTSIDE_TRAINING
    | Flag.NEGATIVE_SHAPE
    | Flag.FEW_PIXELS
    | Flag.CLEAN_DISAGREES
    | Flag.STAGES_DISAGREE
    | Flag.POOR_FIT
    | Flag.LOW_SNR
    | Flag.AT_VELOCITY_BOUND
    | Flag.LOW_COVERAGE
    | Flag.EMISSION
    | Flag.NO_LINES
    | Flag.LARGE_ERRORS
)


def recommended(result: Any, flags: Any) -> Any:
    """Whether labels may be used without a look at the spectrum: converged, and no flag speaks against it.

    Parameters
    ----------
    result, flags : array of int, shape (star,)

    Returns
    -------
    array of bool, shape (star,)
    """
    return (result == int(Result.CONVERGED)) & ((flags & int(DISTRUST)) == 0)


def flag_attrs(flags: type[IntFlag], dtype: str) -> dict[str, object]:
    """CF attributes ``flag_masks`` and ``flag_meanings`` of a bit mask variable."""
    return {
        "flag_masks": np.array([int(f) for f in flags], dtype=dtype),
        "flag_meanings": " ".join((f.name or "").lower() for f in flags),
    }


def result_attrs() -> dict[str, object]:
    """CF attributes ``flag_values`` and ``flag_meanings`` of ``result``."""
    return {
        "flag_values": np.array([int(r) for r in Result], dtype="uint8"),
        "flag_meanings": " ".join(r.name.lower() for r in Result),
    }


@dataclass(frozen=True)
class Variable:
    """A variable of a cube or of its labels.

    Parameters
    ----------
    name : str
    dims : tuple of str
    dtype : str
        ``str`` stands for strings of any length.
    units : str
        Empty where it has none.
    long_name : str
        What it is, to print.
    fill : object, optional
        Value where nothing is known.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    fill: Any = np.nan

    @property
    def attrs(self) -> dict[str, object]:
        """Attributes of the variable, flag meanings included."""
        attrs: dict[str, object] = {"long_name": self.long_name}
        if self.units:
            attrs["units"] = self.units
        if self.name == "mask":
            attrs |= flag_attrs(MaskBit, self.dtype)
        elif self.name == "flags":
            attrs |= flag_attrs(Flag, self.dtype)
        elif self.name == "result":
            attrs |= result_attrs()
        return attrs


_STARS, _PIXELS = (STAR,), (STAR, WAVELENGTH)

SPECTRA = ("flux", "ivar", "mask")  # the variables of the pixels of a cube
IDENTITY = ("obsid", "ra", "dec")  # which star it is; they go along with every selection and every label
DIAGNOSTICS = ("chi2", "reduced_chi2", "snr_fit", "n_good", "n_iter", "result", "flags")
MODEL_SPECTRA = ("model", "used")

VARIABLES: dict[str, Variable] = {
    variable.name: variable
    for variable in (
        Variable("flux", _PIXELS, "float32", "1", "flux", 0.0),
        Variable(
            "ivar",
            _PIXELS,
            "float32",
            "1",
            "inverse variance of the flux, NaN where it is unknown, 0 where the pixel is not to be used",
            0.0,
        ),
        Variable(
            "mask", _PIXELS, MASK_DTYPE, "", "what is wrong with a pixel, 0 is good", int(MaskBit.MISSING)
        ),
        Variable("wavelength", (WAVELENGTH,), "float64", "Angstrom", "wavelength of the middle of the pixel"),
        Variable("obsid", _STARS, "int64", "", "identifier of the spectrum in its survey", -1),
        Variable("ra", _STARS, "float64", "degree", "right ascension"),
        Variable("dec", _STARS, "float64", "degree", "declination"),
        Variable("snr", _STARS, "float64", "1", "signal-to-noise ratio per pixel at the median flux"),
        *(
            Variable(
                f"snr_{band}", _STARS, "float64", "1", f"signal-to-noise ratio per pixel in the band {band}"
            )
            for band in "ugriz"
        ),
        Variable("z", _STARS, "float64", "1", "redshift given by the survey"),
        Variable("rv_survey", _STARS, "float64", "km/s", "radial velocity given by the survey"),
        Variable(
            "rv_removed",
            _STARS,
            "float64",
            "km/s",
            "radial velocity by which the spectrum was brought to rest",
        ),
        Variable("helio_rv", _STARS, "float64", "km/s", "heliocentric correction given by the survey"),
        Variable("mjd", _STARS, "int64", "d", "modified Julian day of the observation", -1),
        Variable("object_class", _STARS, "str", "", "class given by the survey: STAR, GALAXY, QSO, ...", ""),
        Variable("subclass", _STARS, "str", "", "spectral type given by the survey", ""),
        Variable("data_release", _STARS, "str", "", "data release of the survey", ""),
        Variable("planid", _STARS, "str", "", "plan of the observation (LAMOST)", ""),
        Variable("spid", _STARS, "int64", "", "number of the spectrograph", -1),
        Variable("fiberid", _STARS, "int64", "", "number of the fibre", -1),
        Variable("file", _STARS, "str", "", "name of the file that the spectrum comes from", ""),
        Variable("label", (LABEL,), "str", "", "name of a label", ""),
        Variable("label_", (LABEL_,), "str", "", "name of a label, again", ""),
        Variable(
            "covariance",
            (STAR, LABEL, LABEL_),
            "float64",
            "",
            "covariance of the labels, in the products of their units",
        ),
        Variable(
            "limit", (STAR, LABEL), "int8", "", "-1 or 1 where a label lies at its lowest or highest value", 0
        ),
        Variable("chi2", _STARS, "float64", "1", "sum of squared residuals"),
        Variable(
            "reduced_chi2",
            _STARS,
            "float64",
            "1",
            "mean squared residual over the variance of the flux, or, where no variance is known, over the scatter "
            "between neighbouring pixels",
        ),
        Variable(
            "snr_fit",
            _STARS,
            "float64",
            "1",
            "signal-to-noise ratio per pixel: flux of the model over the scatter of the residuals between neighbours",
        ),
        Variable("n_good", _STARS, "int32", "1", "number of pixels used", 0),
        Variable("n_iter", _STARS, "int16", "1", "number of evaluations of the model", 0),
        Variable("result", _STARS, "uint8", "", "how the fit ended", int(Result.NOT_FITTED)),
        Variable("flags", _STARS, "uint16", "", "reasons for care", 0),
        Variable(
            "model", _PIXELS, "float32", "1", "fitted model in units of the flux, NaN outside the window"
        ),
        Variable("used", _PIXELS, "uint8", "1", "1 where a pixel was used in the fit", 0),
    )
}


def fill_value(name: str, dtype: np.dtype[Any]) -> Any:
    """Value of a variable where nothing is known; by its type, for variables that are not registered."""
    if name in VARIABLES:
        return VARIABLES[name].fill
    return float("nan") if dtype.kind == "f" else 0


def page() -> str:
    """The page of labels and variables, in Markdown."""
    parts = [
        "# Labels, variables, flags and codes",
        "This page is printed by `python -m specxr.vocabulary`; change `specxr/vocabulary.py`, not this file.",
        "## Labels",
        "Each label is a variable over `star` in float64, NaN where there is none, and `<label>_err` is its standard "
        "error; `<label>_lo95` and `<label>_hi95` are the ends of its 95 % interval, where a method gives them. A "
        "label *at a limit* lies at an end of the range that was searched: the variable `limit` says at "
        "which, the flag `label_at_limit` is set, and the other labels of the star stay good.",
        _rows(("name", "units", "meaning", "may be a limit"), (
            (f"`{v.name}`", v.units, v.long_name, "yes" if v.limit else "no") for v in LABELS.values())),
        "## Variables",
        _rows(("name", "dimensions", "type", "units", "meaning", "where nothing is stored"), (
            (f"`{v.name}`", ", ".join(v.dims), v.dtype, v.units, v.long_name, repr(v.fill))
            for v in VARIABLES.values())),
        "## Result codes (`result`)",
        _rows(("code", "name", "meaning"), ((str(int(r)), f"`{r.name.lower()}`", r.advice) for r in Result)),
        "## Flags (`flags`)",
        "Bits that may be set together; 0 is none. A star with one of those marked is never `recommended`.",
        _rows(("bit", "name", "not recommended"), (
            (str(int(f)), f"`{(f.name or '').lower()}`", "yes" if f & DISTRUST else "") for f in Flag)),
        "## Mask bits (`mask`)",
        "Bits of a pixel that may be set together; 0 is a good pixel. Every estimator has the option `mask_bits`, "
        "which says which of them leave a pixel out ([masks](masks.md)).",
        _rows(("bit", "name", "left out of fits"), (
            (str(int(b)), f"`{(b.name or '').lower()}`",
             "always" if b & UNUSABLE else "by default" if b & LEFT_OUT else "on request") for b in MaskBit)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _rows(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    print(page(), end="")
