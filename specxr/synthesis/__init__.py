"""Simulated spectra: surveys with true labels, and training sets."""

from specxr.synthesis.generators import EmulatorSpectra, Library, open_folder
from specxr.synthesis.instrument import Instrument
from specxr.synthesis.survey import simulate_survey
from specxr.synthesis.training_set import make_training_set

__all__ = [
    "EmulatorSpectra",
    "Instrument",
    "Library",
    "make_training_set",
    "open_folder",
    "simulate_survey",
]
