"""The four papers: what to cite, and their ranges, recipes and targets; numbers and settings only."""

from specxr.published.hot_stars import hot_star_design, hot_star_normalisation
from specxr.published.m_dwarfs import m_dwarf_normalisation

__all__ = ["hot_star_design", "hot_star_normalisation", "m_dwarf_normalisation"]
