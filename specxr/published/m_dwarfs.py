"""The M-dwarf paper."""

from __future__ import annotations

from specxr.spectra.normalisation import Normalisation


def m_dwarf_normalisation(scale: float = 100.0) -> Normalisation:
    """The smoothing-spline pseudo-continuum of the M-dwarf paper, section 3."""
    return Normalisation(scale)
