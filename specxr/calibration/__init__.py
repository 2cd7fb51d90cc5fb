"""Calibration: error floors measured on repeat visits and applied to labels."""

from specxr.calibration.floors import calibrate, measure_floor

__all__ = ["calibrate", "measure_floor"]
