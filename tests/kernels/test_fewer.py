"""Sums about fewer stars against the sums about all of them."""

import pytest
import torch

from specxr.kernels.machines.fewer import fewer_stars
from specxr.kernels.machines.rbf import rbf


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.01, 0.1])
def test_fewer_stars_give_the_same_function(gamma):
    points, dual = draw(300, 3).clamp(-1.7, 1.7), draw(300, 20)
    order, (fine, rough) = fewer_stars(points, dual, gamma, (1e-6, 1e-3))
    assert sorted(order.tolist()) == list(range(300))
    assert len(rough) < len(fine) < 200
    places = points.amin(0) + (points.amax(0) - points.amin(0)) * draw(500, 3, seed=1).sigmoid()
    wanted = rbf(places, points, gamma) @ dual
    for weights, error in ((fine, 1e-6), (rough, 1e-3)):
        found = rbf(places, points[order[: len(weights)]], gamma) @ weights
        # Measured at other places than where it was chosen.
        assert 0 < (found - wanted).abs().max() < 2 * error


def test_all_stars_stay_where_each_is_needed():
    points, dual = draw(120, 3), draw(120, 5)
    order, (same,) = fewer_stars(points, dual, 100.0, (1e-6,))
    assert torch.equal(same, dual[order])


def test_stars_that_are_there_twice_are_needed_once():
    points, dual = draw(40, 2).repeat(4, 1), draw(160, 5)
    order, (few,) = fewer_stars(points, dual, 1.0, (1e-6,))
    places = points[:40] + 0.01
    assert len(few) <= 48
    torch.testing.assert_close(
        rbf(places, points[order[: len(few)]], 1.0) @ few, rbf(places, points, 1.0) @ dual, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("n", [1, 15, 20])
def test_few_stars_stay(n):
    points, dual = draw(n, 2), draw(n, 5)
    order, (same,) = fewer_stars(points, dual, 0.1, (1e-9,))
    assert torch.equal(same, dual[order])
