"""Wide binaries: catalogues that are wrong are refused, pairs are selected and split, trends are measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from specxr import make_cube
from specxr.calibration.wide_binaries import (
    feh_offset,
    fgk_m_pairs,
    identifiers,
    m_m_pairs,
    measure_feh_trend,
    read_binaries,
    split_pairs,
    with_companion_labels,
)

FGK, M = 2_000_000_000_000_000_001, 1_000_000_000_000_000_001  # one more than a float64 can tell


def catalogue(**columns) -> pd.DataFrame:
    table = pd.DataFrame({
        "source_id1": [FGK, M + 1, FGK + 1], "source_id2": [M, M + 2, M + 3], "R_chance_align": 0.01, "ruwe1": 1.0,
        "ruwe2": 1.0, "sep_AU": 500.0,
    })  # fmt: skip
    return table.assign(**columns)


COMPANIONS = pd.DataFrame({"source_id": [FGK, FGK + 1], "teff": 5500.0, "feh": [0.1, -0.3], "feh_err": 0.05})
DWARFS = M + np.arange(4)


def test_identifiers_as_floating_point_numbers_are_refused():
    """In float64 the two stars are one: the identifier of another star would be found."""
    assert float(M) == float(M + 1)
    for wrong in (catalogue(source_id1=[float(FGK)] * 3), catalogue(source_id2=[M, np.nan, M])):
        with pytest.raises(ValueError, match="floating-point"):
            read_binaries(wrong)


def test_identifiers_as_text_keep_all_digits(tmp_path):
    path = tmp_path / "pairs.csv"
    catalogue().to_csv(path, index=False)
    assert read_binaries(path)["source_id2"].tolist() == [M, M + 2, M + 3]
    assert identifiers([str(M), "", None]).tolist() == [M, 0, 0]
    with pytest.raises(ValueError, match="no integers"):
        identifiers(["Gaia DR3 1"])


def test_pairs_with_a_star_missing_and_repeated_pairs_are_left_out():
    table = catalogue(source_id2=[0, M + 2, -1])
    swapped = catalogue(source_id1=M + 2, source_id2=M + 1)[:1]
    read = read_binaries(pd.concat([table, swapped]))
    assert read["source_id1"].tolist() == [M + 1]
    assert (read.attrs["incomplete"], read.attrs["repeated"]) == (2, 1)
    with pytest.raises(ValueError, match="R_chance_align"):
        read_binaries(catalogue().drop(columns="R_chance_align"))


def test_an_m_dwarf_takes_the_metallicity_of_its_companion_whichever_is_the_first():
    swapped = catalogue().rename(columns={"source_id1": "source_id2", "source_id2": "source_id1"})
    for binaries in (catalogue(), swapped):
        pairs = fgk_m_pairs(read_binaries(binaries), COMPANIONS, DWARFS)
        assert pairs["source_id"].tolist() == [M, M + 3]
        assert pairs["feh"].tolist() == [0.1, -0.3]
        assert m_m_pairs(read_binaries(binaries), DWARFS).shape == (1, 2)


@pytest.mark.parametrize("column", ["R_chance_align", "ruwe1", "ruwe2"])
def test_quality_cuts_remove_pairs(column):
    for bad in (1.5, np.nan):
        binaries = read_binaries(catalogue(**{column: [bad, bad, 0.05]}))
        assert fgk_m_pairs(binaries, COMPANIONS, DWARFS)["source_id"].tolist() == [M + 3]
        assert len(m_m_pairs(binaries, DWARFS)) == 0


def test_uncertain_or_missing_metallicities_are_left_out():
    for feh, error in ((0.1, 0.2), (np.nan, 0.05), (0.1, np.nan)):
        companions = COMPANIONS.assign(feh=[feh, -0.3], feh_err=[error, 0.05])
        assert fgk_m_pairs(read_binaries(catalogue()), companions, DWARFS)["source_id"].tolist() == [M + 3]


def test_an_m_dwarf_with_two_companions_takes_the_better_one():
    binaries = catalogue(source_id2=[M, M + 2, M])
    companions = COMPANIONS.assign(feh_err=[0.1, 0.05])
    assert fgk_m_pairs(read_binaries(binaries), companions, DWARFS)["feh"].tolist() == [-0.3]


def test_labels_are_joined_to_all_spectra_of_a_star():
    ids = np.array([M + 9, M, M + 3, M])
    cube = make_cube(np.ones((4, 3)), None, [5000.0, 5001.0, 5002.0], medium="air", stars={"source_id": ids})
    pairs = fgk_m_pairs(read_binaries(catalogue()), COMPANIONS, DWARFS)
    joined = with_companion_labels(cube, pairs)
    assert joined["obsid"].values.tolist() == [1, 2, 3]
    assert joined["feh"].values.tolist() == [0.1, -0.3, 0.1]
    with pytest.raises(ValueError, match="no variable 'source_id'"):
        with_companion_labels(cube.drop_vars("source_id"), pairs)
    with pytest.raises(ValueError, match="floating-point"):
        with_companion_labels(cube.assign(source_id=cube["source_id"].astype(float)), pairs)
    with pytest.raises(ValueError, match="none of 4 spectra"):
        with_companion_labels(cube.assign(source_id=cube["source_id"] + 50), pairs)


def test_no_pair_is_in_two_parts():
    pair = np.repeat(np.arange(560), 2)
    training, test = split_pairs(pair, (870, 250), seed=3)
    assert not set(pair[training]) & set(pair[test])
    assert sorted([*training, *test]) == list(range(1120))
    assert len(set(pair[training])) == 435
    other, _ = split_pairs(pair, (870, 250), seed=4)
    assert set(other) != set(training)
    with pytest.raises(ValueError, match="1 pairs for 2 parts"):
        split_pairs([1, 1], (1, 1))


def test_the_trend_of_metallicity_is_measured_on_pairs():
    rng = np.random.default_rng(0)
    teff = rng.uniform([4800, 4000], [7000, 5500], (3000, 2))
    true = rng.normal(-0.1, 0.2, 3000)[:, None]
    feh = true + feh_offset(teff, (1.25, -2.4)) + rng.normal(0, 0.05, (3000, 2))
    feh[:30] += 1.0 * rng.normal(size=(30, 2))  # pairs that are none
    exponents, errors = measure_feh_trend(teff, feh)
    for found, error, expected in zip(exponents, errors, (1.25, -2.4), strict=True):
        assert abs(found - expected) < 4 * error
        assert error < 0.1
    corrected = feh - feh_offset(teff, exponents)
    assert abs(np.median(corrected[:, 0] - corrected[:, 1])) < 0.01
    with pytest.raises(ValueError, match="at least 20"):
        measure_feh_trend(teff[:10], feh[:10])


def test_the_offset_is_continuous_and_ends_with_its_model():
    assert feh_offset(5281.4, (1.25, -2.4)) == pytest.approx(-0.042)
    assert np.isnan(feh_offset([3900.0, 7100.0, np.nan], (1.25, -2.4))).all()
