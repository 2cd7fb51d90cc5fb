"""LASP against the stored stages of the published program, injected labels, and spectra that cannot be fitted."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import GRID, block_of, spectra

from specxr.emulators import open_emulator
from specxr.estimators.lasp.estimator import LASP
from specxr.spectra.grid import Grid
from specxr.vocabulary import Flag, Result


@pytest.fixture(scope="module")
def lasp():
    return LASP("default")


def test_injected_labels_are_recovered_within_their_errors(lasp):
    flux, truth = spectra(200, 1, snr=150)
    out = lasp.estimate(block_of(flux))
    assert (out["result"] == Result.CONVERGED).mean() > 0.97
    for name in lasp.labels:
        pull = (out[name] - truth[name]) / out[f"{name}_err"]
        pull = pull[out["result"] == Result.CONVERGED]
        assert abs(np.median(pull)) < 0.3, name
        assert 1.4826 * np.median(abs(pull - np.median(pull))) == pytest.approx(1, abs=0.25), name


def test_without_noise_the_labels_come_back_exactly(lasp):
    flux, truth = spectra(50, 2, snr=1e9)
    block = block_of(flux)
    out = lasp.estimate(dataclasses.replace(block, flux=flux))
    found = out["result"] == Result.CONVERGED
    assert found.mean() > 0.95
    np.testing.assert_allclose(out["teff"][found], truth["teff"][found], rtol=1e-5)
    np.testing.assert_allclose(out["rv"][found], truth["rv"][found], atol=1e-2)


def test_model_is_in_the_units_of_the_flux_and_residuals_give_chi2(lasp):
    flux, _ = spectra(4, 4)
    out = lasp.estimate(block_of(flux), spectra=True)
    used = out["used"] == 1
    scale = np.array([np.median(f[u]) for f, u in zip(flux, used, strict=True)])
    residual = np.where(used, flux - out["model"], 0) / scale[:, None]
    np.testing.assert_allclose((residual**2).sum(1), out["chi2"], rtol=1e-4)
    assert (out["n_good"] == used.sum(1)).all()


def spoil(kind, flux):
    n = flux.shape[1]
    bad = np.zeros(n, dtype=bool)
    spectrum = flux[0].copy()
    if kind == "zero":
        spectrum[:] = 0
    elif kind == "nan":
        spectrum[:] = np.nan
    elif kind == "negative":
        spectrum *= -1
    elif kind == "constant":
        spectrum[:] = 5
    elif kind == "one good pixel":
        bad[:] = True
        bad[600] = False
    elif kind == "infinite":
        spectrum[::7] = np.inf
    elif kind == "emission":
        spectrum[700:710] *= 80
    elif kind == "noise":
        spectrum = np.random.default_rng(0).normal(0, 1, n)
    return spectrum, bad


@pytest.mark.parametrize(
    "kind", ["zero", "nan", "negative", "constant", "one good pixel", "infinite", "emission", "noise"]
)
def test_a_spoiled_spectrum_gets_a_code_and_disturbs_nobody(lasp, kind):
    flux, _ = spectra(9, 5)
    clean = lasp.estimate(block_of(flux))
    spectrum, bad = spoil(kind, flux)
    spoiled, mask = flux.copy(), np.zeros(flux.shape, bool)
    spoiled[4], mask[4] = spectrum, bad
    out = lasp.estimate(block_of(spoiled, bad=mask))
    others = np.arange(9) != 4
    for name in out:
        np.testing.assert_array_equal(out[name][others], clean[name][others], err_msg=name)
    assert out["result"][4] in set(map(int, Result))
    expected = {
        "zero": Result.NON_FINITE,
        "nan": Result.TOO_FEW_PIXELS,
        "negative": Result.NON_FINITE,
        "one good pixel": Result.TOO_FEW_PIXELS,
        "infinite": Result.CONVERGED,
    }
    if kind in expected:
        assert out["result"][4] == expected[kind]
    if expected.get(kind, Result.CONVERGED) != Result.CONVERGED:
        assert np.isnan(out["teff"][4])
        assert np.isnan(out["teff_err"][4])


@settings(max_examples=8)
@given(n=st.integers(1, 90), data=st.data())
def test_labels_are_the_same_to_the_bit_for_any_partition(lasp, n, data):
    flux, _ = spectra(90, 6, snr=30)
    flux = flux[data.draw(st.permutations(range(90)))[:n]]
    whole = lasp.estimate(block_of(flux))
    cut = data.draw(st.integers(0, n))
    parts = [lasp.estimate(block_of(part)) for part in (flux[:cut], flux[cut:])]
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([p[name] for p in parts]), err_msg=name)


def test_single_precision_agrees_with_double():
    flux, _ = spectra(60, 7)
    double = LASP("default").estimate(block_of(flux))
    single = LASP("default", dtype="float32").estimate(block_of(flux))
    both = (double["result"] == 0) & (single["result"] == 0)
    assert both.mean() > 0.9
    for name in ("rv", "teff", "logg", "feh"):
        # A hundredth of the error: nothing that could be seen.
        assert np.median(abs(double[name] - single[name])[both] / double[f"{name}_err"][both]) < 0.01, name


def test_a_wide_mask_is_flagged(lasp):
    flux, _ = spectra(2, 8)
    bad = np.zeros(flux.shape, bool)
    bad[1, 100:900] = True
    out = lasp.estimate(block_of(flux, bad=bad))
    assert not out["flags"][0] & Flag.FEW_PIXELS
    assert out["flags"][1] & Flag.FEW_PIXELS


def test_wrong_options_and_grids_are_refused_before_anything_is_computed():
    with pytest.raises(ValueError, match="solver 'newton' is not known"):
        LASP(solver="newton")
    with pytest.raises(ValueError, match="dtype 'float16'"):
        LASP(dtype="float16")
    with pytest.raises(ValueError, match="window .* is empty"):
        LASP(window=(5700, 4200))
    with pytest.raises(ValueError, match="0 pixels of the cube, .* lie in the window"):
        LASP(window=(9200, 9300)).check(GRID)
    linear = Grid(np.arange(4000, 6000.0), "vacuum", "linear", 1.0)
    with pytest.raises(ValueError, match="log10"):
        LASP().check(linear)
    wide = Grid(10.0 ** np.arange(3.4, 4.0, 1e-4), "vacuum", "log10", 1e-4)
    with pytest.raises(ValueError, match="covers"):
        LASP(window=(3000, 9500)).check(wide)


def test_fingerprint_follows_the_options_and_survives_a_journey(lasp):
    again = pickle.loads(pickle.dumps(lasp))
    assert again.fingerprint == lasp.fingerprint
    assert len(pickle.dumps(lasp)) < 2000
    assert LASP("default", degree=30).fingerprint != lasp.fingerprint


@pytest.fixture(scope="module")
def published(shared):
    stages = np.load(shared / "pylasp/reference_stages.npz")
    start, step, n = stages["ln_grid_start_step_npix"]
    grid = Grid(np.exp(start + step * np.arange(int(n))), "air", "log10", step / np.log(10), None)
    block = block_of(stages["flux"], grid, bad=stages["mask0"] == 0)
    block = dataclasses.replace(block, flux=stages["flux"])
    # The last pixel of the published grid reaches beyond the emulator: its program goes on with the last flux and
    # masks the pixel, which still enters the convolution of those beside it. So do we here, to compare like with
    # like; in our own windows every pixel is covered.
    elodie = open_emulator(shared / "elodie/elodie32_flux_tgm_4199_5700.fits")
    padded = dataclasses.replace(
        elodie,
        coefficients=np.pad(elodie.coefficients, ((0, 0), (0, 0), (0, 10)), mode="edge"),
        edges=np.append(elodie.edges, elodie.edges[-1] + 0.2 * np.arange(1, 11)),
        source=None,
    )
    return stages, block, LASP(padded, window=(4200.0, 5700.1))


def test_labels_and_cost_of_the_published_program(published, capsys):
    stages, block, elodie = published
    out = elodie.estimate(block)
    wanted = stages["nc_out"]
    with capsys.disabled():
        print("\nLASP - published No Clean, 15 stars: std, largest")
        limits = {"rv": 0.03, "teff": 3.0, "logg": 0.005, "feh": 0.002}
        for i, (name, limit) in enumerate(limits.items()):
            difference = out[name] - wanted[:, i]
            print(f"  {name:5s} {difference.std():9.5f} {abs(difference).max():9.5f}  (std at most {limit})")
            assert difference.std() <= limit
    assert abs(out["teff"] - wanted[:, 1]).max() <= 10
    mask = stages["nc_mask"]
    cost = (mask * (stages["flux"] - stages["nc_model"]) ** 2).sum(1)
    median = np.array([np.median(f[m > 0]) for f, m in zip(stages["flux"], stages["mask0"], strict=True)])
    assert (out["chi2"] * median**2 <= cost * (1 + 1e-6)).all()


def test_cleaning_of_the_published_program(published, capsys):
    stages, block, elodie = published
    out = dataclasses.replace(elodie, clean=True).estimate(block, spectra=True)
    different = (out["used"] != stages["cl_mask"]).sum(axis=1)
    median = np.array([np.median(f[m > 0]) for f, m in zip(stages["flux"], stages["mask0"], strict=True)])
    cost = (stages["cl_mask"] * (stages["flux"] - stages["cl_model"]) ** 2).sum(1) / median**2
    # The published program fits to 1e-3 only while it cleans, so that its last fit may be short of the minimum, and
    # two stars end with other pixels (docs/measured/lasp.md). Its labels can be asked for where it reached the minimum.
    same = different == 0
    reached = same & (cost <= out["chi2"] * (1 + 5e-6))
    with capsys.disabled():
        print(f"\nLASP - published Clean, 15 stars: pixels that differ {different.tolist()}")
        print(
            f"  std of all, of {same.sum()} with the same pixels, of {reached.sum()} where its fit had converged"
        )
        limits = {"rv": 0.05, "teff": 5.0, "logg": 0.005, "feh": 0.003}
        for i, (name, limit) in enumerate(limits.items()):
            d = out[name] - stages["cl_out"][:, i]
            print(
                f"  {name:5s} {d.std():8.4f} {d[same].std():8.4f} {d[reached].std():8.4f}  (at most {limit})"
            )
            assert d[reached].std() <= limit
    assert same.sum() >= 13
    assert different.max() <= 5
    assert reached.sum() >= 10
    assert (out["chi2"][same] <= cost[same] * (1 + 1e-6)).all()


def test_errors_of_the_published_program(published):
    stages, block, elodie = published
    out = elodie.estimate(block)
    for i, name in enumerate(("rv", "teff", "logg", "feh")):
        np.testing.assert_allclose(out[f"{name}_err"], stages["nc_out"][:, 4 + i], rtol=0.05)


def test_emulator_rebin_and_model_of_the_published_program(published):
    stages, block, elodie = published
    model = elodie.prepare(block.grid).model
    for prefix in ("nc_", "cl_"):
        parameters = torch.from_numpy(stages[prefix + "par_mu_sig_lnT_logg_feh"])
        labels = torch.column_stack((parameters[:, 2].exp(), parameters[:, 3:]))
        # The paper divides by the pixel's width, its program by step * wavelength: 2e-9 wider on a log grid.
        step = stages["ln_grid_start_step_npix"][1]
        width = 2 * np.sinh(step / 2) / step
        rebinned = model.emulator.flux(labels).numpy() * width
        np.testing.assert_allclose(rebinned, stages[prefix + "rebinned"], rtol=1e-9)
        template = model.template(parameters)[:, :1327].numpy() * width
        np.testing.assert_allclose(template, stages[prefix + "convolved"], rtol=1e-9)
        padding = (0, model.coefficients.shape[1] - 1327)
        flux, root = (
            torch.nn.functional.pad(torch.from_numpy(stages[k].astype("f8")), padding)
            for k in ("flux", prefix + "mask")
        )
        _, found = model.fit_shape(parameters, root * flux, root)
        np.testing.assert_allclose(found[:, :1327].numpy(), stages[prefix + "model"], rtol=1e-8)


def test_derivatives_of_the_template_by_automatic_differentiation(published):
    stages, block, elodie = published
    model = elodie.prepare(block.grid).model
    parameters = torch.from_numpy(stages["nc_par_mu_sig_lnT_logg_feh"])
    _, derivatives = model.template_and_derivatives(parameters)
    for star in range(0, 15, 4):
        wanted = torch.autograd.functional.jacobian(
            lambda p: model.template(p[None])[0], parameters[star], vectorize=True
        )
        # Kept in single precision; the emulator's and the kernel's own are tested in double.
        torch.testing.assert_close(derivatives[star], wanted.mT.float(), rtol=1e-5, atol=1e-5)
