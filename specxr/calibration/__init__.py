"""Calibration: error floors from repeat visits, and the line spread of a survey from stars of known labels."""

from specxr.calibration.floors import calibrate, measure_floor
from specxr.calibration.line_spread import fit_line_spread, measure_widths

__all__ = ["calibrate", "fit_line_spread", "measure_floor", "measure_widths"]
