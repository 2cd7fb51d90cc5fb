"""Calibration: error floors, line spreads, wide binaries and the scales of metallicities."""

from specxr.calibration.floors import calibrate, measure_floor
from specxr.calibration.line_spread import fit_line_spread, measure_widths
from specxr.calibration.metallicity import FehCorrection
from specxr.calibration.training_labels import expected_labels
from specxr.calibration.wide_binaries import fgk_m_pairs, m_m_pairs, read_binaries

__all__ = [
    "FehCorrection",
    "calibrate",
    "expected_labels",
    "fgk_m_pairs",
    "fit_line_spread",
    "m_m_pairs",
    "measure_floor",
    "measure_widths",
    "read_binaries",
]
