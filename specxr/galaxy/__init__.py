"""From labels and catalogues to results of science."""

from specxr.galaxy.extinction import gaia_extinction
from specxr.galaxy.gradients import Gradient, GradientLikelihood, bin_gradient, fit_gradient
from specxr.galaxy.m_dwarfs import absolute_magnitude, mann_logg, mann_mass, mann_radius, mann_teff
from specxr.galaxy.positions import SunPlace, distances, galactic_coordinates, galactic_positions, near_plane
from specxr.galaxy.selection import select_m_dwarfs

__all__ = [
    "Gradient",
    "GradientLikelihood",
    "SunPlace",
    "bin_gradient",
    "distances",
    "fit_gradient",
    "galactic_coordinates",
    "galactic_positions",
    "near_plane",
    "absolute_magnitude",
    "gaia_extinction",
    "mann_logg",
    "mann_mass",
    "mann_radius",
    "mann_teff",
    "select_m_dwarfs",
]
