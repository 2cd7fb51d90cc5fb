"""The numbers of the papers are those of the package's defaults, of the citation file, and of one another."""

from __future__ import annotations

import inspect
import unicodedata
from pathlib import Path

import pytest
import yaml

import specxr
from specxr import emulators
from specxr.estimators import error_laws
from specxr.kernels import adam, clean
from specxr.published import (
    PAPERS,
    Paper,
    language,
    language_abundances,
    lasp,
    m_dwarf_normalisation,
    m_dwarfs,
)
from specxr.published import hot_stars as hot
from specxr.synthesis.designs import ISOCHRONE_SCATTER
from specxr.vocabulary import LABELS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def references() -> dict[str, dict]:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    return {entry["title"]: entry for entry in content["references"]}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.citation)
def test_the_citation_file_has_the_paper(paper: Paper, references):
    entry = references[paper.title]
    assert paper.citation.startswith(entry["authors"][0]["family-names"] + ", ")
    assert str(entry["year"]) in paper.citation
    assert entry.get("doi", "") == paper.doi
    identifiers = [identifier["value"] for identifier in entry.get("identifiers", ())]
    assert identifiers == ([f"arXiv:{paper.arxiv}"] if paper.arxiv else [])
    if "volume" in entry:
        assert f"{entry['volume']}, {entry['start']}" in paper.citation


def test_the_citation_file_has_no_other_paper_than_those_of_the_embedded_emulator(references):
    others = [entry for title, entry in references.items() if title not in {paper.title for paper in PAPERS}]
    cited = emulators.default().citation
    assert others
    for entry in others:
        first = unicodedata.normalize("NFKD", entry["authors"][0]["family-names"])
        assert first.encode("ascii", "ignore").decode() in cited
        assert str(entry["year"]) in cited


def test_lasp_is_as_published_by_default():
    default = {name: p.default for name, p in inspect.signature(specxr.LASP).parameters.items()}
    settings = lasp.LASP_SETTINGS
    assert default["window"] == settings.window
    assert default["degree"] == settings.degree
    assert default["quantile"] == settings.quantile
    assert lasp.CLEAN_SETTINGS == lasp.CleanSettings(
        clean.THRESHOLDS,
        clean.MAX_FRACTION,
        clean.NEIGHBOUR_THRESHOLD,
        clean.MAX_GROWTH,
        clean.FORGIVEN_FIRST,
        clean.FORGIVEN_LATER,
    )
    published = lasp.ADAM_SETTINGS
    ours = (adam.LEARNING_RATE, adam.MAX_STEPS, adam.PATIENCE, adam.LOSS_CHANGE)
    assert ours == (published.learning_rate, published.steps, published.patience, published.loss_change)


def test_slam_searches_what_the_hot_star_paper_searches():
    default, published = specxr.SLAM(), hot.HOT_STAR_TRAINING
    assert tuple(default.c) == published.c
    assert tuple(default.gamma) == published.gamma
    assert tuple(default.epsilon) == (published.epsilon,)


def test_error_laws_have_as_many_stars_in_a_bin_as_the_m_dwarf_paper():
    assert error_laws._STARS_PER_BIN == m_dwarfs.M_DWARF_ERRORS.stars_per_bin


def test_the_recipes_of_normalisation_differ_in_rounds_and_bands():
    recipe = hot.hot_star_normalisation("air")
    assert (recipe.rounds, recipe.clip, recipe.window) == (3, 3.0, 100.0)
    assert hot.H_ALPHA_CORE in recipe.excluded
    assert len(recipe.excluded) == len(hot.INTERSTELLAR_BANDS) + 1
    assert m_dwarf_normalisation().rounds == 1
    assert m_dwarf_normalisation().excluded == ()


def test_labels_of_the_hot_star_paper_are_in_the_vocabulary():
    labels = {"teff", "logg", *hot.HOT_STAR_DESIGN.others}
    assert len(labels) == 11
    assert labels <= set(LABELS)
    assert set(hot.GRADIENT_OFFSETS) == labels == set(hot.RECOVERY_AT_SNR_100)
    assert hot.HOT_STAR_DESIGN.scatter == ISOCHRONE_SCATTER


def test_usable_ranges_of_m_dwarfs_lie_in_those_of_the_training_set():
    for label, (low, high) in m_dwarfs.M_DWARF_USABLE_RANGES.items():
        assert (
            m_dwarfs.M_DWARF_TRAINING_RANGES[label][0]
            <= low
            < high
            <= m_dwarfs.M_DWARF_TRAINING_RANGES[label][1]
        )
    training = m_dwarfs.M_DWARF_TRAINING
    assert training.n_train + training.n_test == m_dwarfs.N_FGK_M_BINARIES


def test_programs_of_lasp_are_named_as_in_the_package():
    for result in lasp.LASP_RESULTS:
        specxr.LASP(solver=result.solver, clean=result.clean)
        assert set(result.scatter) == set(result.n_outlier) == set(lasp.START_TOLERANCES)
        assert max(result.n_outlier.values()) / result.n_matched < 0.0036  # 0.35 % in section 4.2.1


def test_tables_of_the_language_paper_are_complete():
    classes = set(language.SPECTRAL_CLASSES)
    residuals = [language.FIRST_STAGE_RESIDUALS, *language.EXTERNAL_RESIDUALS.values()]
    residuals += [*language.RESIDUALS_100K.values(), *language.RESIDUALS_500K.values()]
    for table in residuals:
        assert set(table) == classes | {"all"}
        assert all(set(row) == set(language.FIRST_STAGE_LABELS) for row in table.values())
    assert set(language.RESIDUALS_100K) == {"lightgbm", "resnet50", "small_cnn", "gru", "llm"}
    assert all(len(row) == 21 for row in language.LABELLED_SPECTRA.values())
    labels = set(language.SECOND_STAGE_LABELS)
    assert len(language.SECOND_STAGE_LABELS) == len(labels) == 21
    assert set(language_abundances.ABUNDANCE_RESIDUALS) == labels
    assert all(set(table) == labels for table in language_abundances.ABUNDANCE_ERRORS.values())
    groups = (
        language_abundances.STABLE_ABUNDANCES,
        language_abundances.MODERATE_ABUNDANCES,
        language_abundances.WEAK_ABUNDANCES,
    )
    graded = [label for group in groups for label in group]
    for table in language_abundances.EXTERNAL_ABUNDANCES.values():
        assert set(table) == set(graded)
    assert len(graded) == len(set(graded)) == 17


def test_a_prompt_holds_all_pixels():
    prompt = language.PROMPT_FORMAT
    low, high = prompt.wavelength
    assert round((high - low) / prompt.step) + 1 == 4901
    text = prompt.second_question.format(first="3800", last="8700", labels="C_FE", flux="0.303, 0.307")
    assert text.endswith("parameters: C_FE. <flux>0.303, 0.307</flux>")
