"""The two stars of wide binaries, and the scatter of held-out stars against S/N."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from specxr.validation import compare, components, scatter_by_snr


def test_components_are_the_two_stars_of_each_pair():
    labels = pd.DataFrame(
        {"source_id": [1, 2, 3, 3, 5], "feh": [0.1, 0.0, 9.0, -0.3, 7.0], "snr": [9, 9, 2, 9, 9]}
    )
    pairs = pd.DataFrame({"source_id1": [1, 5, 3], "source_id2": [2, 6, 1]})
    one, two = components(labels, pairs)
    assert one["feh"].tolist() == [0.1, -0.3]  # of two spectra of star 3, the better one
    assert two["feh"].tolist() == [0.0, 0.1]
    assert one["pair"].tolist() == two["pair"].tolist() == [0, 2]
    assert compare(one, two, on="pair", labels=("feh",)).loc["feh", "n"] == 2
    with pytest.raises(ValueError, match="none of 1 pairs"):
        components(labels, pairs[1:2])


def test_scatter_in_bins_of_snr_is_that_of_the_stars():
    rng = np.random.default_rng(0)
    snr = np.exp(rng.uniform(0, 4, 4000))
    difference = 0.1 + rng.normal(0, 1, 4000) * 2.0 / np.sqrt(snr)
    difference[7] = np.nan
    table = scatter_by_snr(difference, snr, 200)
    assert table["n"].between(200, 225).all()
    assert (np.abs(table["scatter"] - 2.0 / np.sqrt(table["snr"])) < 4 * table["scatter_err"]).all()
    assert (np.abs(table["bias"] - 0.1) < 4 * table["bias_err"]).all()
    with pytest.raises(ValueError, match="at least 20"):
        scatter_by_snr(difference[:10], snr[:10])
