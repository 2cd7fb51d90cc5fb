"""Extinction in the bands of Gaia."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specxr.published.photometry import GAIA_EXTINCTION, R_V

_REDDEST = 4.0  # mag; beyond, the cubic in the colour has no star under it
_ROUNDS = 30  # of dereddening: a round reduces the error of the colour by a factor of 5 or more


class GaiaExtinction(NamedTuple):
    """Extinction in G, BP and RP [mag], each of shape (star,)."""

    g: NDArray[np.float64]
    bp: NDArray[np.float64]
    rp: NDArray[np.float64]


def gaia_extinction(ebv: ArrayLike, bp_rp: ArrayLike) -> GaiaExtinction:
    """Convert a reddening to extinctions in the bands of Gaia.

    Parameters
    ----------
    ebv : array_like, shape (star,)
        E(B-V) [mag].
    bp_rp : array_like, shape (star,)
        Observed colour BP - RP [mag].

    Returns
    -------
    GaiaExtinction
        NaN where reddening or colour is not finite, or the reddening is negative.

    Notes
    -----
    A_V = 3.1 E(B-V) (Cardelli et al. 1989), and the coefficients of Gaia Collaboration, Babusiaux et al. (2018), which
    depend on the dereddened colour. That is found by iteration. Colours beyond 4 mag count as 4.
    """
    ebv, observed = np.broadcast_arrays(np.asarray(ebv, "f8"), np.asarray(bp_rp, "f8"))
    total = R_V * np.where(np.isfinite(ebv) & (ebv >= 0), ebv, np.nan)
    colour = observed
    for _ in range(_ROUNDS):
        blue, red = (_coefficient(band, colour, total) * total for band in ("bp", "rp"))
        colour = observed - blue + red
    return GaiaExtinction(*(_coefficient(band, colour, total) * total for band in ("g", "bp", "rp")))


def _coefficient(band: str, colour: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    c = GAIA_EXTINCTION[band]
    b = np.minimum(colour, _REDDEST)
    own = c[0] + c[1] * b + c[2] * b**2 + c[3] * b**3 + c[4] * total + c[5] * total**2 + c[6] * b * total
    return np.asarray(own)
