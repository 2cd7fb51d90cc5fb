"""Figures. A function draws on the figure or axes that it is given, and returns it; pyplot is not used."""

from specxr.plotting.abundance_trend import plot_abundance_trends
from specxr.plotting.colour_cuts import plot_colour_cuts
from specxr.plotting.colour_magnitude import plot_candidates, plot_colour_magnitude
from specxr.plotting.comparison import plot_comparison
from specxr.plotting.cross_validation import plot_cross_validation, plot_error_law
from specxr.plotting.emulator import plot_gradients, plot_pixel_residuals
from specxr.plotting.fit import plot_fit
from specxr.plotting.horizontal_branch import plot_horizontal_branch
from specxr.plotting.kiel import plot_kiel
from specxr.plotting.radial_gradient import plot_radial_gradient
from specxr.plotting.recovery import plot_recovery, plot_recovery_by_snr, plot_recovery_on_kiel
from specxr.plotting.rotation import plot_rotation
from specxr.plotting.star import plot_star
from specxr.plotting.style import save_figure

__all__ = [
    "plot_abundance_trends",
    "plot_candidates",
    "plot_colour_cuts",
    "plot_colour_magnitude",
    "plot_comparison",
    "plot_cross_validation",
    "plot_error_law",
    "plot_fit",
    "plot_gradients",
    "plot_horizontal_branch",
    "plot_kiel",
    "plot_pixel_residuals",
    "plot_radial_gradient",
    "plot_recovery",
    "plot_recovery_by_snr",
    "plot_recovery_on_kiel",
    "plot_rotation",
    "plot_star",
    "save_figure",
]
