"""The four papers: what to cite, and their ranges, recipes and targets; numbers and settings only.

A file holds one paper, and says for every number which table, figure or section it comes from. Nothing below this floor
imports it: kernels, estimators and training sets take numbers as arguments, or have defaults of their own.
"""

from specxr.published.hot_stars import HOT_STAR_PAPER, hot_star_normalisation
from specxr.published.language import LANGUAGE_PAPER
from specxr.published.lasp import LASP_PAPER
from specxr.published.m_dwarfs import M_DWARF_PAPER, m_dwarf_normalisation
from specxr.published.paper import Paper

PAPERS: tuple[Paper, ...] = (LASP_PAPER, HOT_STAR_PAPER, M_DWARF_PAPER, LANGUAGE_PAPER)

__all__ = [
    "HOT_STAR_PAPER",
    "LANGUAGE_PAPER",
    "LASP_PAPER",
    "M_DWARF_PAPER",
    "PAPERS",
    "Paper",
    "hot_star_normalisation",
    "m_dwarf_normalisation",
]
