"""Simulated spectra: a survey's likeness, and training sets of known labels."""

from specxr.synthesis.generators import EmulatorSpectra, Library, open_folder
from specxr.synthesis.instrument import Instrument
from specxr.synthesis.line_spread import fit_line_spread, measure_widths
from specxr.synthesis.survey import simulate_survey
from specxr.synthesis.training_set import make_training_set, normalise_cube

__all__ = [
    "EmulatorSpectra",
    "Instrument",
    "Library",
    "fit_line_spread",
    "make_training_set",
    "measure_widths",
    "normalise_cube",
    "open_folder",
    "simulate_survey",
]
