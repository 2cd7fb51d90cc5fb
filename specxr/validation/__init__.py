"""Labels judged: against other labels, and against known ones."""

from specxr.validation.comparison import compare, match, robust_scatter
from specxr.validation.recovery import (
    gradient_spectra,
    pixel_residuals,
    recovery_by_snr,
    recovery_on_kiel,
    recovery_table,
)

__all__ = [
    "compare",
    "gradient_spectra",
    "match",
    "pixel_residuals",
    "recovery_by_snr",
    "recovery_on_kiel",
    "recovery_table",
    "robust_scatter",
]
