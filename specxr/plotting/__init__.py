"""Figures. Functions draw where they are told and return what they drew on; none touches pyplot's state."""

from specxr.plotting.comparison import plot_comparison
from specxr.plotting.emulator import plot_gradients, plot_pixel_residuals
from specxr.plotting.fit import plot_fit
from specxr.plotting.kiel import plot_kiel
from specxr.plotting.recovery import plot_recovery, plot_recovery_by_snr, plot_recovery_on_kiel

__all__ = [
    "plot_comparison",
    "plot_fit",
    "plot_gradients",
    "plot_kiel",
    "plot_pixel_residuals",
    "plot_recovery",
    "plot_recovery_by_snr",
    "plot_recovery_on_kiel",
]
