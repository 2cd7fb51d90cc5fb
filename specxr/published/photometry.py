"""Relations between photometry and properties of stars that the M-dwarf paper uses, and extinction in Gaia's bands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """A polynomial with its scatter and the range in which it is valid.

    Attributes
    ----------
    coefficients : tuple of float
        Lowest power first.
    scatter : float
        Standard deviation of a star about the relation, as a fraction of the result [1], or [K] for temperatures.
    valid : (float, float)
        Range of the variable [mag].
    source : str
        Author, year, table or equation.
    """

    coefficients: tuple[float, ...]
    scatter: float
    valid: tuple[float, float]
    source: str


# log10(mass / solar) as a polynomial of M_Ks - 7.5 mag.
MASS_ZERO_POINT = 7.5
MASS = Relation(
    (-0.642, -0.208, -8.43e-4, 7.87e-3, 1.42e-4, -2.13e-4),
    0.022,
    (4.0, 11.0),
    "Mann et al. 2019, Table 6, n = 5 (M-dwarf paper, equation 14)",
)
# Radius / solar as a polynomial of M_Ks.
RADIUS = Relation(
    (1.9515, -0.3520, 0.01680),
    0.0289,
    (4.6, 9.8),
    "Mann et al. 2015, 2016, Table 1 (M-dwarf paper, equation 13)",
)
# teff / 3500 K as a polynomial of BP - RP, plus one of J - H without a constant. The range is that of the 183 stars of
# Mann et al. The M-dwarf paper and the erratum agree in the sign of the last term; with the other one, the temperatures
# of those stars are 89 K off.
TEFF = Relation(
    (3.172, -2.475, 1.082, -0.2231, 0.01738),
    49.0,
    (1.8, 4.9),
    "Mann et al. 2016 (M-dwarf paper, equation 12)",
)
TEFF_J_H = (0.0, 0.08776, 0.04355)
TEFF_SPECTROSCOPY = 60.0  # K, the error of the temperatures that the relation was fitted to

LOGG_SUN = 4.438  # M-dwarf paper, equation 9

# Extinction A_X = k_X A_V: k = c0 + c1 b + c2 b^2 + c3 b^3 + c4 A + c5 A^2 + c6 b A with b the dereddened BP - RP and A
# the extinction at 550 nm (Gaia Collaboration, Babusiaux et al. 2018, Table 1).
GAIA_EXTINCTION = {
    "g": (0.9761, -0.1704, 0.0086, 0.0011, -0.0438, 0.0013, 0.0099),
    "bp": (1.1517, -0.0871, -0.0333, 0.0173, -0.0230, 0.0006, 0.0043),
    "rp": (0.6104, -0.0170, -0.0026, -0.0017, -0.0078, 0.00005, 0.0006),
}
R_V = 3.1  # M-dwarf paper, section 2.2, after Cardelli et al. 1989
# E(B-V) for one unit of the map Bayestar19 (Green et al. 2019 and the page of the map).
BAYESTAR_TO_EBV = 0.884
