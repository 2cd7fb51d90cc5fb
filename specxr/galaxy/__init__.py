"""From labels and catalogues to results of science."""

from specxr.galaxy.abundances import Deconvolution, deconvolve, running_median
from specxr.galaxy.bhb import (
    bhb_distance,
    bhb_probability,
    compare_rotation,
    metal_poor_candidate,
    on_horizontal_branch,
)
from specxr.galaxy.crossmatch import join_catalogue
from specxr.galaxy.extinction import gaia_extinction
from specxr.galaxy.gradients import Gradient, GradientLikelihood, bin_gradient, fit_gradient
from specxr.galaxy.hot_stars import (
    below_line,
    determined,
    enough_signal,
    fit_kiel_line,
    hot,
    join_visits,
    luminous,
    no_giant,
    not_cool,
    oba_colours,
    pseudo_magnitude,
)
from specxr.galaxy.m_dwarfs import absolute_magnitude, mann_logg, mann_mass, mann_radius, mann_teff
from specxr.galaxy.positions import SunPlace, distances, galactic_coordinates, galactic_positions, near_plane
from specxr.galaxy.selection import select_m_dwarfs

__all__ = [
    "Deconvolution",
    "Gradient",
    "GradientLikelihood",
    "SunPlace",
    "absolute_magnitude",
    "below_line",
    "bhb_distance",
    "bhb_probability",
    "bin_gradient",
    "compare_rotation",
    "deconvolve",
    "determined",
    "distances",
    "enough_signal",
    "fit_gradient",
    "fit_kiel_line",
    "gaia_extinction",
    "galactic_coordinates",
    "galactic_positions",
    "hot",
    "join_catalogue",
    "join_visits",
    "luminous",
    "mann_logg",
    "mann_mass",
    "mann_radius",
    "mann_teff",
    "metal_poor_candidate",
    "near_plane",
    "no_giant",
    "not_cool",
    "oba_colours",
    "on_horizontal_branch",
    "pseudo_magnitude",
    "running_median",
    "select_m_dwarfs",
]
