"""Figures. Functions draw where they are told and return what they drew on; none touches pyplot's state."""

from specxr.plotting.comparison import plot_comparison
from specxr.plotting.fit import plot_fit
from specxr.plotting.kiel import plot_kiel
from specxr.plotting.recovery import plot_recovery

__all__ = ["plot_comparison", "plot_fit", "plot_kiel", "plot_recovery"]
