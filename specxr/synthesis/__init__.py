"""Simulated spectra: surveys with true labels, and training sets."""

from specxr.synthesis.dwarf_templates import DwarfTemplates
from specxr.synthesis.generators import EmulatorSpectra, Library, open_folder
from specxr.synthesis.hot_star_survey import HotStarMock
from specxr.synthesis.instrument import Instrument
from specxr.synthesis.m_dwarf_survey import MDwarfMock, MockDesign, simulate_m_dwarfs
from specxr.synthesis.observed import open_observed
from specxr.synthesis.responses import Responses, WithAbundances
from specxr.synthesis.survey import simulate_survey
from specxr.synthesis.training_set import make_training_set

__all__ = [
    "DwarfTemplates",
    "EmulatorSpectra",
    "HotStarMock",
    "Instrument",
    "Library",
    "MDwarfMock",
    "MockDesign",
    "Responses",
    "WithAbundances",
    "make_training_set",
    "open_folder",
    "open_observed",
    "simulate_m_dwarfs",
    "simulate_survey",
]
