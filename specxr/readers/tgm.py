"""Emulators in the FITS layout of ULySS' TGM component, such as ELODIE 3.2 and MILES."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from specxr.emulators.polynomial import PolynomialEmulator

# The file's terms, in its order, as sums of monomials {(power of t, of g, of f): factor}, with
# t = (log10 teff - 3.7617) / 0.2, g = logg - 4.44, f = [Fe/H], q = t^2 - 1 (Wu et al. 2011).
_TERMS: tuple[dict[tuple[int, int, int], float], ...] = (
    {(0, 0, 0): 1},
    {(1, 0, 0): 1},
    {(0, 0, 1): 1},
    {(0, 1, 0): 1},
    {(2, 0, 0): 1},
    {(3, 0, 0): 1, (1, 0, 0): -1},  # t q
    {(4, 0, 0): 1, (2, 0, 0): -2, (0, 0, 0): 1},  # q^2
    {(1, 0, 1): 1},
    {(1, 1, 0): 1},
    {(2, 1, 0): 1, (0, 1, 0): -1},  # q g
    {(2, 0, 1): 1, (0, 0, 1): -1},  # q f
    {(0, 2, 0): 1},
    {(0, 0, 2): 1},
    {(5, 0, 0): 1, (3, 0, 0): -2, (1, 0, 0): 1},  # t q^2
    {(1, 2, 0): 1},
    {(0, 3, 0): 1},
    {(0, 0, 3): 1},
    {(1, 0, 2): 1},
    {(0, 1, 1): 1},
    {(0, 2, 1): 1},
    {(0, 1, 2): 1},
)
_REMAINDERS = (1.0, 2.0)  # the last two terms: exp(t) and exp(2 t) less their Taylor polynomials of degree 5
_MEDIA = {"AWAV": "air", "WAVE": "vacuum"}


def read_tgm(path: str | Path) -> PolynomialEmulator:
    """Read an emulator from a TGM file: three images (warm, hot, cold) of shape (term, wavelength).

    Parameters
    ----------
    path : str or Path
        FITS file with ``ULY_TYPE = TGM``.

    Returns
    -------
    PolynomialEmulator
        Emulator with the bounds within which LASP fits with ELODIE 3.2.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, or it is not in this layout.

    References
    ----------
    Koleva et al. 2009, A&A 501, 1269 (ULySS); Prugniel et al. 2007, astro-ph/0703658 (ELODIE 3.1);
    Wu et al. 2011, A&A 525, A71 (ELODIE 3.2).
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # astropy only warns of a file that ends early, and then reads zeros.
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                header = hdus[0].header
                images = [hdu.data for hdu in hdus]
    except FileNotFoundError:
        raise
    except (OSError, TypeError, ValueError, AstropyUserWarning) as error:
        raise _not_tgm(path, f"cannot be read as FITS ({error})") from error

    if header.get("ULY_TYPE") != "TGM":
        raise _not_tgm(path, f"has ULY_TYPE = {header.get('ULY_TYPE')!r} in its header")
    shapes: list[tuple[int, ...]] = [() if image is None else image.shape for image in images]
    terms = len(_TERMS) + len(_REMAINDERS)
    if len(shapes) != 3 or len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] < terms:
        raise _not_tgm(path, f"holds images of shapes {shapes}")
    warm, hot, cold = (np.asarray(image, dtype=np.float64) for image in images)
    if any(image[terms:].any() for image in (warm, hot, cold)):
        raise _not_tgm(path, f"has terms beyond the first {terms} (INTRP_V = {header.get('INTRP_V')!r})")
    medium = _MEDIA.get(str(header.get("CTYPE1")).strip())
    if medium is None or not {"CRVAL1", "CDELT1"} <= set(header):
        raise _not_tgm(path, f"has CTYPE1 = {header.get('CTYPE1')!r}, or no CRVAL1 and CDELT1")

    pixel = np.arange(warm.shape[1] + 1) + 0.5 - header.get("CRPIX1", 1.0)
    powers, conversion = _monomials()
    return PolynomialEmulator(
        coefficients=np.stack([conversion @ image[:terms] for image in (cold, warm, hot)]),
        edges=header["CRVAL1"] + header["CDELT1"] * pixel,
        medium=medium,
        powers=powers,
        fiducial=np.array([[3.6617, 4.44, 0.0], [3.7617, 4.44, 0.0], [3.7617, 4.44, 0.0]]),
        scale=np.tile([0.2, 1.0, 1.0], (3, 1)),
        knots=np.array([[4000.0, 4550.0], [7000.0, 9000.0]]),
        bounds={"teff": (3100.0, 40000.0), "logg": (-0.25, 5.9), "feh": (-2.5, 1.0)},
        log_teff=True,
        remainders=_REMAINDERS,
        name=path.name,
        citation="Koleva et al. 2009 (ULySS); Wu et al. 2011; Prugniel et al. 2007 (ELODIE 3.2)",
    )


def _monomials() -> tuple[np.ndarray, np.ndarray]:
    """Powers, shape (monomial, 3), and the matrix that turns the file's coefficients into theirs."""
    powers = sorted({power for term in _TERMS for power in term})
    conversion = np.zeros((len(powers) + len(_REMAINDERS), len(_TERMS) + len(_REMAINDERS)))
    for column, term in enumerate(_TERMS):
        for power, factor in term.items():
            conversion[powers.index(power), column] = factor
    for i in range(len(_REMAINDERS)):
        conversion[len(powers) + i, len(_TERMS) + i] = 1.0
    return np.array(powers), conversion


def _not_tgm(path: Path, fault: str) -> ValueError:
    return ValueError(
        f"{path} {fault}; a FITS file with ULY_TYPE = TGM and three images (warm, hot, cold) of "
        f"{len(_TERMS) + len(_REMAINDERS)} terms over linear wavelengths is required. Give such a file, or "
        "'default'."
    )
