"""Recommendations on real stars of LAMOST DR10: those with odd places, the others decided about the thresholds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import mannwhitneyu
from support.nonsense import spoilt
from support.zoo import rows

from specxr import LASP
from specxr.estimators.base import Block
from specxr.estimators.lasp.floors import floors
from specxr.readers.registry import open_reader
from specxr.vocabulary import Flag, recommended

LABELS = ("teff", "logg", "feh")
BINS = ((20, 40), (40, 80), (80, 150), (150, 300))
OF_THE_FIT = (
    Flag.EDGE_OF_GRID | Flag.NEGATIVE_SHAPE | Flag.FEW_PIXELS | Flag.CLEAN_DISAGREES | Flag.STAGES_DISAGREE
)


@pytest.fixture(scope="module")
def lasp(shared):
    return LASP(shared / "elodie/elodie32_flux_tgm_4199_5700.fits", clean=True, two_stage=True)


@pytest.fixture(scope="module")
def stars(shared):
    """Spectra with odd places and S/N_g of 20 to 300, with their official labels."""
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").sort_values("file").iloc[1::2]
    table = table[table.snrg.between(20, 300)].reset_index(drop=True)
    reader = open_reader("lamost-lrs")
    read = next(iter(reader.read([shared / "lamost_dr10/fits" / name for name in table.file])))
    part = slice(468, 1968)  # about 4121 to 5821 Angstrom
    return Block(reader.grid[part], read.flux[:, part], read.ivar[:, part], read.mask[:, part]), table


@pytest.fixture(scope="module")
def judged(lasp, stars):
    """What LASP gives, which stars it recommends, and how far each label is from the official one, in errors."""
    block, table = stars
    out = lasp.estimate(block)
    error = np.stack([out[f"{name}_err"] for name in LABELS], axis=1)
    floor = floors(LABELS, torch.from_numpy(np.nan_to_num(out["teff"]))).numpy()
    difference = np.stack([out[name] for name in LABELS], axis=1) - table[list(LABELS)].to_numpy()
    return (
        out,
        recommended(out["result"], out["flags"]),
        np.abs(difference) / np.sqrt(error**2 + 2 * floor**2),
    )


@pytest.mark.parametrize("kind", ["G", "F", "A"])
def test_the_share_of_recommended_stars_does_not_fall_with_the_signal(judged, stars, kind):
    table, (_, good, _) = stars[1], judged
    bins = [good[(table.type == kind) & table.snrg.between(*edges)] for edges in BINS]
    share = np.array([part.mean() for part in bins])
    variance = np.array([part.var() / len(part) for part in bins])
    assert min(share) > 0.85
    assert (share[1:] > share[0] - 2 * np.sqrt(variance[1:] + variance[0])).all()


def test_recommended_stars_agree_at_least_as_well_as_the_others(judged, stars):
    """Few stars are not recommended: that they agree better must not be more than chance."""
    table, (_, good, away) = stars[1], judged
    fitted = np.isfinite(away).all(axis=1)
    for edges in BINS:
        inside = table.snrg.between(*edges).to_numpy() & fitted
        test = mannwhitneyu(away[inside & good].max(1), away[inside & ~good].max(1), alternative="greater")
        assert test.pvalue > 0.05, edges
    assert np.median(away[good & fitted]) < 0.9 * np.median(away[~good & fitted])


def test_good_stars_are_not_lost(judged):
    out, good, away = judged
    fitted = (out["result"] == 0) & ((out["flags"] & int(OF_THE_FIT)) == 0)
    worth = fitted & (away < 3).all(axis=1)
    assert worth.sum() > 300
    assert (~good[worth]).mean() <= 0.02


def test_spoilt_stars_are_not_recommended(lasp, stars):
    block, table = stars
    chosen = np.flatnonzero(table.snrg > 30)[::25]
    sets = spoilt(rows(block, chosen))
    share = {}
    for name in ("permuted pixels", "degraded to S/N 3", "two stars, +-150 km/s"):
        out = lasp.estimate(sets[name])
        assert (out["result"] == 0).any()
        share[name] = recommended(out["result"], out["flags"]).mean()
    binaries = share.pop("two stars, +-150 km/s")
    assert share == dict.fromkeys(share, 0.0)
    assert binaries < 0.2
