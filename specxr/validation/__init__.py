"""Validation: labels against other labels and against known ones, and emulators against spectra they have not seen."""

from specxr.validation.binaries import components
from specxr.validation.comparison import compare, compare_by, match, robust_scatter
from specxr.validation.cross_validation import scatter_by_snr
from specxr.validation.emulator import gradient_spectra, pixel_residuals
from specxr.validation.recovery import recovery_by_snr, recovery_on_kiel, recovery_table
from specxr.validation.repeats import repeat_table

__all__ = [
    "compare",
    "compare_by",
    "components",
    "gradient_spectra",
    "match",
    "pixel_residuals",
    "recovery_by_snr",
    "recovery_on_kiel",
    "recovery_table",
    "repeat_table",
    "robust_scatter",
    "scatter_by_snr",
]
