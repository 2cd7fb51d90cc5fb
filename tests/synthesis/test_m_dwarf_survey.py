"""The mock of the M-dwarf paper, on templates that this test makes."""

from __future__ import annotations

import numpy as np
import pytest
from support.dwarfs import LOGLAM, write_templates

from specxr.calibration.wide_binaries import feh_offset, fgk_m_pairs, m_m_pairs, read_binaries
from specxr.galaxy import select_m_dwarfs
from specxr.synthesis import DwarfTemplates, MockDesign, simulate_m_dwarfs


@pytest.fixture(scope="module")
def templates(tmp_path_factory) -> DwarfTemplates:
    return DwarfTemplates.read(*write_templates(tmp_path_factory.mktemp("templates")))


def test_templates_are_interpolated(templates):
    """Between two types, and between two metallicities, the band is as deep as the law of the templates says."""
    flux = templates.flux([3500.0, 3300.0, 3500.0], [0.0, 0.0, 0.25], [4.8] * 3, [4.8] * 3)
    at, beside = np.argmin(np.abs(10**LOGLAM - 7100)), np.argmin(np.abs(10**LOGLAM - 7300))
    depth = 1 - flux[:, at] / flux[:, beside] * (7300 / 7100) ** 3
    np.testing.assert_allclose(depth - depth[0], [0.0, 0.04, 0.025], atol=4e-3)


def test_gravity_strengthens_what_giants_have_weaker(templates):
    low, high = templates.flux([3500.0] * 2, [0.0] * 2, [4.8, 5.8], [4.8] * 2)
    change = (high - low) / low
    at = np.argmin(np.abs(10**LOGLAM - 6900))
    assert change[at] == pytest.approx(-0.1 / 3.4 / 0.8, rel=0.3)
    assert change[at] < 5 * change[[at - 25, at + 25]].min()


def test_the_mock_has_what_the_recipe_reads(templates):
    design = MockDesign(n_fgk_m=60, n_m_m=20, n_fgk_fgk=30, n_other=50, seed=1)
    mock = simulate_m_dwarfs(templates, feh_offset, design)
    assert mock.cube.sizes["star"] == 60 + 2 * 20 == len(mock.truth)
    dwarfs = mock.gaia.loc[select_m_dwarfs(mock.gaia)["m_dwarf"].values, "source_id"]
    assert dwarfs.isin(mock.truth["source_id"]).mean() > 0.9
    assert len(dwarfs) > 90
    binaries = read_binaries(mock.binaries)
    pairs = fgk_m_pairs(binaries, mock.fgk, mock.truth["source_id"])
    both = m_m_pairs(binaries, mock.truth["source_id"])
    assert (len(pairs), len(both)) == (60, 20)
    truth = mock.truth.set_index("source_id")
    feh = truth["feh"].loc[both["source_id1"]].to_numpy()
    np.testing.assert_array_equal(feh, truth["feh"].loc[both["source_id2"]])
    corrected = pairs["feh"] - feh_offset(pairs["teff_fgk"], design.feh_exponents)
    away = corrected - truth["feh"].loc[pairs["source_id"]].to_numpy()
    assert 0.13 < away.std() < 0.25
    snr = mock.cube["snr"].values
    assert snr.min() >= 2.0
    assert snr.max() <= 60.0
    noise = mock.cube["ivar"].values[:, 0] ** -0.5 * snr
    np.testing.assert_allclose(np.median(mock.cube["flux"].values, axis=1) / noise, 1.0, atol=0.15)


def test_the_seed_decides(templates):
    design = {"n_fgk_m": 5, "n_m_m": 2, "n_fgk_fgk": 3, "n_other": 4}
    one, same, other = (
        simulate_m_dwarfs(templates, feh_offset, MockDesign(**design, seed=s)) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.cube["flux"], same.cube["flux"])
    assert not np.array_equal(one.cube["flux"], other.cube["flux"])
