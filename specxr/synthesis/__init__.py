"""Simulated spectra: label designs, a survey's likeness, noise."""

from specxr.synthesis.survey import simulate_survey

__all__ = ["simulate_survey"]
