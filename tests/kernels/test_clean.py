"""Rejection of outlying pixels against a plain reading of the rule, one star at a time."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specxr.kernels.clean import clean


def plainly(e, model, usable, used, forgiven):
    """The three steps with loops over pixels."""
    n = len(e)
    step = np.abs(np.diff(model))
    gradient = np.maximum(np.append(step, 0), np.insert(step, 0, 0))
    excess = np.abs(e) - forgiven * gradient
    sigma = e[used].std()
    for k in (3, 4, 5, 7):
        taken = (excess[used] > k * sigma).sum()
        if taken <= 0.03 * used.sum():
            break
    if taken == 0:
        return used
    out = usable & (excess > k * sigma)
    primary = np.flatnonzero(out)
    for j in primary:
        for i in (j - 1, j + 1):
            if 0 <= i < n and usable[i] and excess[i] > 2 * sigma:
                out[i] = True
    for _ in range(20):
        inner = e[usable & ~out].std()
        grown = out.copy()
        for i in range(n):
            for j in (i - 1, i + 1):
                if 0 <= j < n and out[j] and usable[i] and e[i] * e[j] > 0 and abs(e[i]) <= abs(e[j]):
                    grown[i] |= excess[i] > inner
        if (grown == out).all():
            break
        out = grown
    return usable & ~out


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), first=st.booleans(), heavy=st.floats(0, 0.15))
def test_it_is_the_rule_star_by_star(seed, first, heavy):
    rng = np.random.default_rng(seed)
    n_star, n = 4, 150
    e = rng.normal(0, 1, (n_star, n))
    hit = rng.uniform(size=e.shape) < heavy
    e[hit] *= rng.uniform(3, 12, hit.sum())
    e = np.apply_along_axis(lambda row: np.convolve(row, [0.3, 1, 0.3], "same"), 1, e)
    model = 1 + 0.2 * rng.normal(size=e.shape)
    usable = rng.uniform(size=e.shape) > 0.05
    used = usable & (rng.uniform(size=e.shape) > 0.05)
    forgiven = 0.5 if first else 0.2
    arrays = [torch.from_numpy(a) for a in (np.where(usable, e, 0.0), model, usable, used)]
    found = clean(*arrays, forgiven).numpy()
    for star in range(n_star):
        wanted = plainly(arrays[0][star].numpy(), model[star], usable[star], used[star], forgiven)
        np.testing.assert_array_equal(found[star], wanted)


def test_a_lone_spike_goes_and_noise_stays():
    noise = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).clamp(
        -2.5, 2.5
    )
    noise[0, 500] = 30.0
    everything = torch.ones(1, 1000, dtype=torch.bool)
    left = clean(noise, torch.ones_like(noise), everything, everything, 0.5)
    assert torch.nonzero(~left)[:, 1].tolist() == [500]


def test_a_steep_line_is_forgiven_what_a_flat_continuum_is_not():
    residual = torch.full((1, 400), 0.01, dtype=torch.float64)
    residual[0, ::2] = -0.01
    residual[0, [100, 300]] = 0.06
    model = torch.ones_like(residual)
    model[0, 100] = 0.5
    everything = torch.ones(1, 400, dtype=torch.bool)
    left = clean(residual, model, everything, everything, 0.5)
    assert left[0, 100]
    assert not left[0, 300]
