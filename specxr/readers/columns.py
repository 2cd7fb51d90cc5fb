"""Variables of stars that only some surveys give, with their names, units and bits: each is declared here, once."""

from __future__ import annotations

from enum import IntFlag

from specxr.vocabulary import STAR, VARIABLES, Variable, flag_attrs


class SdssFiberBit(IntFlag):
    """Bits 0 to 12 of the pixel masks of SDSS and BOSS, which concern a fibre as a whole (bitmask SPPIXMASK)."""

    NOPLUG = 1 << 0
    BADTRACE = 1 << 1
    BADFLAT = 1 << 2
    BADARC = 1 << 3
    MANYBADCOLUMNS = 1 << 4
    MANYREJECTED = 1 << 5
    LARGESHIFT = 1 << 6
    BADSKYFIBER = 1 << 7
    NEARWHOPPER = 1 << 8
    WHOPPER = 1 << 9
    SMEARIMAGE = 1 << 10
    SMEARHIGHSN = 1 << 11
    SMEARMEDSN = 1 << 12


class ApogeeStarFlag(IntFlag):
    """Bits of STARFLAG (bitmask APOGEE_STARFLAG)."""

    BAD_PIXELS = 1 << 0
    COMMISSIONING = 1 << 1
    BRIGHT_NEIGHBOR = 1 << 2
    VERY_BRIGHT_NEIGHBOR = 1 << 3
    LOW_SNR = 1 << 4
    PERSIST_HIGH = 1 << 9
    PERSIST_MED = 1 << 10
    PERSIST_LOW = 1 << 11
    PERSIST_JUMP_POS = 1 << 12
    PERSIST_JUMP_NEG = 1 << 13
    SUSPECT_RV_COMBINATION = 1 << 16
    SUSPECT_BROAD_LINES = 1 << 17
    BAD_RV_COMBINATION = 1 << 18
    RV_REJECT = 1 << 19
    RV_SUSPECT = 1 << 20
    MULTIPLE_SUSPECT = 1 << 21
    RV_FAIL = 1 << 22


class AspcapFlag(IntFlag):
    """Bits of ASPCAPFLAG (bitmask APOGEE_ASPCAPFLAG)."""

    TEFF_WARN = 1 << 0
    LOGG_WARN = 1 << 1
    VMICRO_WARN = 1 << 2
    M_H_WARN = 1 << 3
    ALPHA_M_WARN = 1 << 4
    C_M_WARN = 1 << 5
    N_M_WARN = 1 << 6
    STAR_WARN = 1 << 7
    CHI2_WARN = 1 << 8
    COLORTE_WARN = 1 << 9
    ROTATION_WARN = 1 << 10
    SN_WARN = 1 << 11
    SPEC_HOLE_WARN = 1 << 12
    ATMOS_HOLE_WARN = 1 << 13
    VSINI_WARN = 1 << 14
    TEFF_BAD = 1 << 16
    LOGG_BAD = 1 << 17
    VMICRO_BAD = 1 << 18
    M_H_BAD = 1 << 19
    ALPHA_M_BAD = 1 << 20
    C_M_BAD = 1 << 21
    N_M_BAD = 1 << 22
    STAR_BAD = 1 << 23
    CHI2_BAD = 1 << 24
    COLORTE_BAD = 1 << 25
    ROTATION_BAD = 1 << 26
    SN_BAD = 1 << 27
    SPEC_HOLE_BAD = 1 << 28
    ATMOS_HOLE_BAD = 1 << 29
    VSINI_BAD = 1 << 30
    NO_ASPCAP_RESULT = 1 << 31


def _column(name: str, dtype: str, units: str, long_name: str) -> Variable:
    fill = {"int64": -1, "str": ""}.get(dtype, float("nan"))
    return Variable(name, (STAR,), dtype, units, long_name, fill)


_FLAGS: dict[str, type[IntFlag]] = {
    "fibermask": SdssFiberBit,
    "starflag": ApogeeStarFlag,
    "aspcapflag": AspcapFlag,
}

# Labels of ASPCAP.
_ASPCAP = {
    "teff": ("K", "effective temperature"),
    "logg": ("dex", "logarithm of the surface gravity in cm/s2"),
    "vmic": ("km/s", "microturbulent velocity"),
    "m_h": ("dex", "[M/H]"),
    "c_m": ("dex", "[C/M]"),
    "n_m": ("dex", "[N/M]"),
    "alpha_m": ("dex", "[alpha/M]"),
    "vsini": ("km/s", "projected rotational velocity"),
}

SURVEY_COLUMNS: dict[str, Variable] = {
    column.name: column
    for column in (
        _column("source_id", "int64", "", "identifier of the star in Gaia"),
        _column("resolving_power", "float64", "1", "median of wavelength / FWHM over the spectrum"),
        _column("plate", "int64", "", "number of the plate or field (SDSS)"),
        _column("exposure", "int64", "", "number of the exposure"),
        _column("catalogid", "int64", "", "identifier of the target in the catalogue of SDSS-V"),
        _column("sdss_id", "int64", "", "identifier of the star in SDSS-V"),
        _column("zwarning", "int64", "", "warnings of the redshift (SDSS), 0 is good"),
        _column("fibermask", "int64", "", "what is wrong with the fibre in every exposure (SDSS), 0 is good"),
        _column(
            "fiberstatus", "int64", "", "what is wrong with the fibre (DESI COADD_FIBERSTATUS), 0 is good"
        ),
        _column("n_exposures", "int64", "", "number of exposures that were added"),
        _column("exposure_time", "float64", "s", "exposure time"),
        _column("desi_target", "int64", "", "bits of the targets of DESI"),
        _column("mws_target", "int64", "", "bits of the targets of DESI's Milky Way Survey"),
        _column("ebv", "float64", "mag", "reddening E(B-V) given by the survey"),
        _column("parallax", "float64", "mas", "parallax given by the survey"),
        _column("pmra", "float64", "mas/yr", "proper motion in right ascension"),
        _column("pmdec", "float64", "mas/yr", "proper motion in declination"),
        _column("phot_g_mean_mag", "float64", "mag", "G magnitude of Gaia"),
        _column("phot_bp_mean_mag", "float64", "mag", "BP magnitude of Gaia"),
        _column("phot_rp_mean_mag", "float64", "mag", "RP magnitude of Gaia"),
        _column("apogee_id", "str", "", "name of the star in APOGEE"),
        _column("n_visits", "int64", "", "number of visits that were combined"),
        _column("rv_scatter", "float64", "km/s", "standard deviation of the velocities of the visits"),
        _column("starflag", "int64", "", "what is wrong with the spectrum (APOGEE STARFLAG), 0 is good"),
        _column("aspcapflag", "int64", "", "what is wrong with the labels (ASPCAPFLAG), 0 is good"),
        *(
            _column(f"{name}_{suffix}", "float64", units, f"{meaning} {source}")
            for name, (units, meaning) in _ASPCAP.items()
            for suffix, source in (
                ("survey", "given by the survey"),
                ("survey_err", "given by the survey, standard error"),
                ("survey_raw", "given by the survey before its calibration"),
            )
        ),
    )
}


def attrs_of(name: str) -> dict[str, object]:
    """Attributes of a variable of a cube, flag meanings included; none if it is not registered."""
    variable = variable_of(name)
    attrs = dict(variable.attrs) if variable is not None else {}
    if name in _FLAGS:
        attrs |= flag_attrs(_FLAGS[name], "int64")
    return attrs


def variable_of(name: str) -> Variable | None:
    """The variable of this name, of the vocabulary or of a survey; None if it is not registered."""
    return VARIABLES.get(name) or SURVEY_COLUMNS.get(name)
