"""Names of dimensions, labels, units, mask bits, flags and result codes, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

STAR = "star"
WAVELENGTH = "wavelength"
LABEL, LABEL_ = "label", "label_"

SPEED_OF_LIGHT = 299792.458  # km/s, exact

MEDIA = ("vacuum", "air")
SAMPLINGS = ("log10", "linear")


@dataclass(frozen=True)
class Label:
    """One quantity inferred from a spectrum: its name, its units and a name to print."""

    name: str
    units: str
    long_name: str

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes of the variable that holds the label."""
        return {"units": self.units, "long_name": self.long_name}

    @property
    def error_attrs(self) -> dict[str, str]:
        """Attributes of the variable ``<label>_err``."""
        return {"units": self.units, "long_name": f"standard error of {self.long_name}"}


LABELS: dict[str, Label] = {
    label.name: label
    for label in (
        Label("rv", "km/s", "radial velocity"),
        Label("teff", "K", "effective temperature"),
        Label("logg", "dex", "logarithm of the surface gravity in cm/s2"),
        Label("feh", "dex", "[Fe/H]"),
        Label("sigma", "km/s", "Gaussian line broadening, instrument and rotation together"),
        Label("vsini", "km/s", "projected rotational velocity"),
        Label("vmic", "km/s", "microturbulent velocity"),
        Label("alpha_m", "dex", "[alpha/M]"),
        Label("c_fe", "dex", "[C/Fe]"),
        Label("n_fe", "dex", "[N/Fe]"),
        Label("o_fe", "dex", "[O/Fe]"),
        Label("s_fe", "dex", "[S/Fe]"),
        Label("mg_fe", "dex", "[Mg/Fe]"),
        Label("si_fe", "dex", "[Si/Fe]"),
        Label("ca_fe", "dex", "[Ca/Fe]"),
        Label("ti_fe", "dex", "[Ti/Fe]"),
    )
}


class MaskBit(IntFlag):
    """Bits of ``mask(star, wavelength)``; 0 is a good pixel.

    Surveys' own bits are mapped to these by their reader.
    """

    MISSING = 1  # the spectrum does not reach this pixel
    NO_IVAR = 2  # inverse variance zero, negative or not finite
    BAD_FLUX = 4  # flux not finite
    BAD_ALWAYS = 8  # flagged by the survey in every exposure (LAMOST ANDMASK)
    BAD_ONCE = 16  # flagged by the survey in at least one exposure (LAMOST ORMASK)
    SKY = 32  # near a bright or badly subtracted sky line
    TELLURIC = 64  # telluric absorption
    INTERSTELLAR = 128  # interstellar absorption


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
    Result.MAX_ITER: "no convergence within max_iter steps; look at the spectrum, or raise max_iter",
    Result.OUT_OF_BOUNDS: "a label ended on a bound of the emulator; the star lies outside what it covers",
    Result.NON_FINITE: "flux or model is not finite or the median flux is not positive; no labels are given",
    Result.TOO_FEW_PIXELS: "fewer good pixels than the fit needs; no labels are given",
    Result.NEGATIVE_SHAPE: "the shape polynomial is not positive everywhere; labels are not to be trusted",
    Result.SINGULAR: "the labels cannot be told apart with these pixels; errors are not given",
    Result.NOT_FITTED: "the run has not come to this star, or its block is in quarantine; call the run again",
}


class Flag(IntFlag):
    """Bits of ``flags(star)``: reasons for care; 0 is none."""

    EDGE_OF_GRID = 1  # a label lies at a bound of the emulator
    OUTSIDE_TRAINING = 2  # outside the domain that the emulator or estimator was trained on
    NEGATIVE_SHAPE = 4  # the shape polynomial is zero or negative somewhere
    FEW_PIXELS = 8  # more than half of the pixels are masked
    CLEAN_DISAGREES = 16  # Clean and No Clean differ by more than their errors
    STAGES_DISAGREE = 32  # the fit of the shape-corrected spectrum differs by more than its errors
    AT_REGIME_BOUNDARY = 64  # within 1 % of a temperature where the emulator changes regime


# A star with none of these may be recommended; standing at a boundary of the emulator is no fault of its own.
DISTRUST = (
    Flag.EDGE_OF_GRID
    | Flag.OUTSIDE_TRAINING
    | Flag.NEGATIVE_SHAPE
    | Flag.FEW_PIXELS
    | Flag.CLEAN_DISAGREES
    | Flag.STAGES_DISAGREE
)


def flag_attrs(flags: type[IntFlag], dtype: str = "uint8") -> dict[str, object]:
    """CF attributes ``flag_masks`` and ``flag_meanings`` of a bit mask variable."""
    import numpy as np

    return {
        "flag_masks": np.array([int(f) for f in flags], dtype=dtype),
        "flag_meanings": " ".join((f.name or "").lower() for f in flags),
    }


def result_attrs() -> dict[str, object]:
    """CF attributes ``flag_values`` and ``flag_meanings`` of ``result``."""
    import numpy as np

    return {
        "flag_values": np.array([int(r) for r in Result], dtype="uint8"),
        "flag_meanings": " ".join(r.name.lower() for r in Result),
    }


CUBE_SCHEMA_VERSION = 1
