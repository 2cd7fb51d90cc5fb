import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from safetensors.numpy import save_file
from scipy.ndimage import gaussian_filter1d

from specxr.emulators import PolynomialEmulator, default, files, open_emulator, write_safetensors
from specxr.kernels.rebin import rebin
from specxr.kernels.refraction import air_to_vacuum, vacuum_to_air
from specxr.readers.tgm import read_tgm

N_PIXEL = 12
WARM, HOT, COLD = range(3)


def write_tgm(path: Path, coefficients: np.ndarray, **cards: object) -> Path:
    hdus = [fits.PrimaryHDU(coefficients[0])] + [fits.ImageHDU(image) for image in coefficients[1:]]
    for hdu in hdus:
        hdu.header.update(CTYPE1="AWAV", CRVAL1=4200.0, CDELT1=0.2, ULY_TYPE="TGM", INTRP_V="2")
        hdu.header.update(cards)
    fits.HDUList(hdus).writeto(path)
    return path


def random_tgm() -> np.ndarray:
    coefficients = np.random.default_rng(5).normal(size=(3, 26, N_PIXEL)).astype(np.float32)
    coefficients[:, 23:] = 0.0
    return coefficients


def tgm_flux(coefficients: np.ndarray, teff: float, logg: float, feh: float) -> np.ndarray:
    """The published formula, term by term, one star at a time."""

    def regime(which: int) -> np.ndarray:
        t = (math.log10(teff) - 3.7617 + (0.1 if which == COLD else 0.0)) / 0.2
        g, f, q = logg - 4.44, feh, t**2 - 1
        basis = [1, t, f, g, t**2, t * q, q**2, t * f, t * g, q * g, q * f, g**2, f**2, t * q**2, t * g**2]
        basis += [g**3, f**3, t * f**2, g * f, g**2 * f, g * f**2]
        basis += [
            math.exp(t) - 1 - t * (1 + t / 2 + t**2 / 6 + t**3 / 24 + t**4 / 120),
            math.exp(2 * t) - 1 - 2 * t * (1 + t + 2 * t**2 / 3 + t**3 / 3 + 2 * t**4 / 15),
        ]
        return np.array(basis) @ coefficients[which, :23].astype(np.float64)

    def blend(cool: int, warm: int, low: float, high: float) -> np.ndarray:
        weight = math.log(teff / low) / math.log(high / low)
        return (1 - weight) * regime(cool) + weight * regime(warm)

    if teff <= 4000:
        return regime(COLD)
    if teff <= 4550:
        return blend(COLD, WARM, 4000, 4550)
    if teff <= 7000:
        return regime(WARM)
    if teff <= 9000:
        return blend(WARM, HOT, 7000, 9000)
    return regime(HOT)


@pytest.fixture(scope="module")
def tgm(tmp_path_factory: pytest.TempPathFactory) -> PolynomialEmulator:
    return open_emulator(write_tgm(tmp_path_factory.mktemp("tgm") / "small.fits", random_tgm()))


def random_cannon() -> PolynomialEmulator:
    """Two regimes of cubics of teff itself, as in the Cannon."""
    powers = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if a + b + c <= 3]
    return PolynomialEmulator(
        coefficients=np.random.default_rng(6).normal(size=(2, len(powers), N_PIXEL)),
        edges=np.linspace(4200.0, 4202.4, N_PIXEL + 1),
        medium="air",
        powers=np.array(powers),
        fiducial=np.array([[5500.0, 3.5, -0.4], [11000.0, 4.0, -0.2]]),
        scale=np.array([[4000.0, 4.0, 2.5], [15000.0, 2.0, 2.0]]),
        knots=np.array([[7500.0, 8500.0]]),
        bounds={"teff": (4300.0, 25000.0), "logg": (0.0, 5.0), "feh": (-2.5, 0.5)},
        log_teff=False,
    )


@pytest.fixture(scope="module", params=["tgm", "cannon", "default"])
def emulator(request: pytest.FixtureRequest) -> PolynomialEmulator:
    if request.param == "tgm":
        return request.getfixturevalue("tgm")
    return default() if request.param == "default" else random_cannon()


def random_labels(n: int, seed: int = 1) -> torch.Tensor:
    random = np.random.default_rng(seed)
    teff = np.exp(random.uniform(np.log(3100.0), np.log(40000.0), n))
    return torch.tensor(np.stack([teff, random.uniform(0, 5.9, n), random.uniform(-2.5, 1, n)], 1))


# As many from each piece of the three, whose widths differ.
pieces = [(3100, 4000), (4000, 4550), (4550, 7000), (7000, 7500), (7500, 8500), (8500, 9000), (9000, 40000)]
temperatures = st.sampled_from(pieces).flatmap(lambda piece: st.floats(*piece))
labels_of_one_star = st.tuples(temperatures, st.floats(-0.25, 5.9), st.floats(-2.5, 1.0))


@given(star=labels_of_one_star)
def test_tgm_is_the_published_formula(tgm: PolynomialEmulator, star: tuple[float, float, float]) -> None:
    flux = tgm.on(tgm.edges, "air").flux(torch.tensor([star], dtype=torch.float64))[0]
    expected = tgm_flux(random_tgm(), *star)
    assert_allclose(flux, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("prefix", ["nc_", "cl_"])
def test_tgm_reference_stage(shared: Path, prefix: str) -> None:
    stages = np.load(shared / "pylasp/reference_stages.npz")
    parameters = torch.from_numpy(stages[prefix + "par_mu_sig_lnT_logg_feh"][:, 2:])
    parameters[:, 0] = torch.exp(parameters[:, 0])
    emulator = open_emulator(shared / "elodie/elodie32_flux_tgm_4199_5700.fits")
    assert_allclose(emulator.edges[:-1] + 0.1, stages["wave_model_native"], rtol=1e-12)
    flux = emulator.on(emulator.edges, "air").flux(parameters)
    assert_allclose(flux, stages[prefix + "emulator"], rtol=1e-9)
    # The labels enter float32 only after the powers and exponentials, whose terms cancel, have been formed.
    single = emulator.on(emulator.edges, "air", dtype=torch.float32).flux(parameters)
    assert_allclose(single, stages[prefix + "emulator"], rtol=2e-5)


def plain_terms(emulator: PolynomialEmulator, labels: torch.Tensor) -> torch.Tensor:
    """The terms, shape (star, term), as the docstring of PolynomialEmulator has them."""
    teff, logg, feh = labels.unbind(1)
    weights = [torch.ones_like(teff)]
    for low, high in emulator.knots:
        rise = (torch.log(teff / low) / math.log(high / low)).clamp(0, 1)
        weights = [*weights[:-1], weights[-1] * (1 - rise), weights[-1] * rise]
    y = (torch.log10(teff) if emulator.log_teff else teff, logg, feh)
    terms = []
    for weight, fiducial, scale in zip(weights, emulator.fiducial, emulator.scale, strict=True):
        x = [(y[i] - fiducial[i]) / scale[i] for i in range(3)]
        terms += [weight * x[0] ** a * x[1] ** b * x[2] ** c for a, b, c in emulator.powers.tolist()]
        for k in emulator.remainders:
            taylor = sum((k * x[0]) ** n / math.factorial(n) for n in range(6))
            terms.append(weight * (torch.exp(k * x[0]) - taylor))
    return torch.stack(terms, 1)


@settings(max_examples=15)
@given(stars=st.lists(labels_of_one_star, min_size=10, max_size=30))
def test_derivatives_are_those_of_autograd(
    emulator: PolynomialEmulator, stars: list[tuple[float, float, float]]
) -> None:
    grid = emulator.on(emulator.edges[:4], emulator.medium)
    # At a boundary the derivative is one of two; which one is tested below.
    stars = [star for star in stars if min(abs(star[0] / np.array(emulator.boundaries) - 1.0)) > 1e-12]
    labels = torch.tensor(stars, dtype=torch.float64).reshape(-1, 3).requires_grad_()
    expected = plain_terms(emulator, labels)
    slopes = [torch.autograd.grad(term.sum(), labels, retain_graph=True)[0] for term in expected.unbind(1)]
    terms, by_label = grid.terms_and_derivatives(labels.detach())
    assert_allclose(terms, expected.detach(), rtol=1e-10, atol=1e-12)
    scale = by_label.abs().amax(2, keepdim=True)
    assert_allclose(by_label / scale, torch.stack(slopes, 2) / scale, rtol=1e-10, atol=1e-10)
    flux, flux_by_label = grid.flux_and_derivatives(labels.detach())
    assert_allclose(flux, terms @ grid.coefficients, rtol=1e-9, atol=1e-9)
    assert_allclose(flux_by_label, by_label @ grid.coefficients, rtol=1e-9, atol=1e-9)


def test_derivative_at_a_boundary_is_the_hotter_one(emulator: PolynomialEmulator) -> None:
    grid = emulator.on(emulator.edges, emulator.medium)
    for boundary in emulator.boundaries:
        teff = boundary * (1.0 + torch.tensor([-1e-9, 1e-13, 1e-9], dtype=torch.float64))
        labels = torch.stack([teff, torch.full_like(teff, 4.2), torch.zeros_like(teff)], 1)
        flux, by_label = grid.flux_and_derivatives(labels)
        size = by_label[:, 0].abs().max()
        assert (flux[0] - flux[2]).abs().max() < 1e-5 * flux.abs().max()  # continuous
        assert (by_label[1, 0] - by_label[2, 0]).abs().max() < 1e-5 * size
        assert (by_label[1, 0] - by_label[0, 0]).abs().max() > 1e-2 * size


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_star_does_not_depend_on_its_neighbours(emulator: PolynomialEmulator, dtype: torch.dtype) -> None:
    grid = emulator.on(emulator.edges[:1200], emulator.medium, dtype=dtype)
    labels = random_labels(131)
    terms, by_label = grid.terms_and_derivatives(labels)
    flux, flux_by_label = grid.flux_and_derivatives(labels)
    for first, stars in [(0, 1), (7, 1), (1, 2), (3, 5), (2, 17), (64, 64), (1, 130)]:
        some = slice(first, first + stars)
        for whole, part in zip(
            (terms, by_label, flux, flux_by_label),
            (*grid.terms_and_derivatives(labels[some]), *grid.flux_and_derivatives(labels[some])),
            strict=True,
        ):
            assert part.dtype == dtype
            assert torch.equal(whole[some], part)


def test_labels_that_are_not_finite_stay_in_their_star(emulator: PolynomialEmulator) -> None:
    grid = emulator.on(emulator.edges[:9], emulator.medium)
    good = torch.tensor([5000.0, 4.0, 0.0], dtype=torch.float64)
    bad = torch.tensor(
        [[math.nan, 4, 0], [math.inf, 4, 0], [-5000, 4, 0], [5000, math.inf, -math.inf], [0, 1e30, 0]]
    )
    flux, by_label = grid.flux_and_derivatives(torch.cat([bad.double(), good[None]]))
    assert flux[0].isnan().all()
    assert flux[1:].isfinite().all()
    assert by_label[1:].isfinite().all()
    assert torch.equal(flux[-1], grid.flux(good[None])[0])


def test_rebinned_coefficients_give_the_rebinned_flux(emulator: PolynomialEmulator) -> None:
    labels = random_labels(20)
    native = emulator.on(emulator.edges, emulator.medium).flux(labels)
    low, high = emulator.edges[[0, -1]]
    edges = np.linspace(low + 0.05, high - 0.05, 6)
    folded = emulator.on(edges, emulator.medium).flux(labels)
    assert_allclose(folded, rebin(native, emulator.edges, edges), rtol=1e-9, atol=1e-9)


def test_media_are_converted(tgm: PolynomialEmulator) -> None:
    edges = np.linspace(4200.0, 4202.0, 8)
    in_air, in_vacuum = tgm.on(edges, "air"), tgm.on(air_to_vacuum(edges), "vacuum")
    assert_allclose(in_air.coefficients, in_vacuum.coefficients, rtol=1e-9, atol=1e-9)
    assert_allclose(tgm.to_medium(edges, "vacuum"), vacuum_to_air(edges))


def test_coverage_and_media_are_checked(tgm: PolynomialEmulator) -> None:
    edges = np.linspace(4200.0, 4202.0, 8)
    tgm.check_coverage(edges, "air")
    with pytest.raises(
        ValueError,
        match=r"span 4200\.0-4202\.0 .*vacuum.* covers only 4201\.1-4203\.5, and .* required\. Cut",
    ):
        tgm.on(edges, "vacuum")
    with pytest.raises(ValueError, match="medium is 'water'; one of"):
        tgm.on(edges, "water")


def test_shapes_are_checked(tgm: PolynomialEmulator) -> None:
    arrays = {name: getattr(tgm, name) for name in files._ARRAYS} | {"edges": tgm.edges[1:]}
    attributes = {name: getattr(tgm, name) for name in files._ATTRIBUTES}
    with pytest.raises(ValueError, match=r"edges is float64 of shape \(12,\), not float64 of shape \(13,\)"):
        PolynomialEmulator(**arrays, **attributes)
    with pytest.raises(ValueError, match=r"medium is 'ether'"):
        PolynomialEmulator(**arrays | {"edges": tgm.edges}, **attributes | {"medium": "ether"})


def test_file_round_trip(emulator: PolynomialEmulator, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    write_safetensors(emulator, path)
    copy = open_emulator(path)
    assert copy.fingerprint == emulator.fingerprint
    for name in files._ATTRIBUTES:
        assert getattr(copy, name) == getattr(emulator, name)


def test_pickle_is_a_name_and_a_hash(tgm: PolynomialEmulator) -> None:
    pickled = pickle.dumps(tgm)
    assert len(pickled) < 1000
    there = pickle.loads(pickled)
    assert there.fingerprint == tgm.fingerprint
    assert pickle.loads(pickled) is there
    assert len(pickle.dumps(default())) < 1000
    assert str(Path(files.__file__).parent) not in str(pickle.dumps(default()))


def test_pickle_of_one_in_memory_is_whole(tmp_path: Path) -> None:
    in_memory = read_tgm(write_tgm(tmp_path / "gone.fits", random_tgm()))
    (tmp_path / "gone.fits").unlink()
    there = pickle.loads(pickle.dumps(in_memory))
    assert there.fingerprint == in_memory.fingerprint
    assert_allclose(there.coefficients, in_memory.coefficients)


def test_pickle_refuses_another_content(tmp_path: Path) -> None:
    path = write_tgm(tmp_path / "changes.fits", random_tgm())
    pickled = pickle.dumps(open_emulator(path))
    path.unlink()
    write_tgm(path, 2.0 * random_tgm())
    with pytest.raises(ValueError, match="fingerprint .* must be the same. Give every machine"):
        pickle.loads(pickled)


def test_fingerprint_sees_every_number(tmp_path: Path) -> None:
    coefficients = random_tgm()
    one = read_tgm(write_tgm(tmp_path / "one.fits", coefficients))
    assert read_tgm(tmp_path / "one.fits").fingerprint == one.fingerprint
    shifted = write_tgm(tmp_path / "two.fits", coefficients, CRVAL1=4200.1)
    assert read_tgm(shifted).fingerprint != one.fingerprint
    coefficients[HOT, 22, -1] += 1e-3
    assert read_tgm(write_tgm(tmp_path / "three.fits", coefficients)).fingerprint != one.fingerprint


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="there is no emulator file .*; .* required. Give the path of one"
    ):
        open_emulator(tmp_path / "missing.fits")
    with pytest.raises(ValueError, match=r"suffix '\.txt'; one of \.fits, \.safetensors is required\. Give"):
        open_emulator("labels.txt")
    with pytest.raises(ValueError, match="elodie has the suffix ''"):
        open_emulator("elodie")


def test_files_that_are_no_emulators(tmp_path: Path) -> None:
    save_file({"weights": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    (tmp_path / "text.fits").write_text("not FITS")
    (tmp_path / "empty.fits").write_bytes(b"")
    fits.PrimaryHDU(np.zeros((5, 100))).writeto(tmp_path / "spectrum.fits")
    write_tgm(tmp_path / "two_images.fits", random_tgm()[:2])
    write_tgm(tmp_path / "few_terms.fits", random_tgm()[:, :20])
    write_tgm(tmp_path / "more_terms.fits", random_tgm() + np.float32(1.0))
    write_tgm(tmp_path / "log.fits", random_tgm(), CTYPE1="AWAV-LOG")
    whole = write_tgm(tmp_path / "whole.fits", np.repeat(random_tgm(), 200, axis=2)).read_bytes()
    (tmp_path / "truncated.fits").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.fits").unlink()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 10
    for path in paths:
        with pytest.raises(ValueError, match=f"^{path} .*[;.] [Gg]ive such a file, .*'default'"):
            open_emulator(path)


def test_the_default_is_embedded() -> None:
    emulator = open_emulator("default")
    assert emulator is default()
    assert pickle.loads(pickle.dumps(emulator)).fingerprint == emulator.fingerprint
    assert files._DEFAULT_FILE.stat().st_size < 2.5e6
    notice = files._DEFAULT_FILE.with_suffix(".LICENSE").read_text()
    assert "MILES" in notice
    assert "Sanchez-Blazquez, P., et al. 2006" in notice
    lamost = 10.0 ** (np.arange(35682 - 0.5, 38690) * 1e-4)  # to 7400 Angstrom
    emulator.check_coverage(lamost, "vacuum")
    assert emulator.bounds == {"teff": (3100.0, 30000.0), "logg": (-0.25, 5.5), "feh": (-2.5, 0.8)}
    flux = emulator.on(lamost, "vacuum").flux(torch.tensor([[5800.0, 4.4, 0.0], [9500.0, 4.0, 0.0]]))
    hydrogen_beta = np.searchsorted(lamost, 4862.68) - 1
    assert (flux[:, hydrogen_beta] < torch.tensor([0.7, 0.6])).all()
    assert (flux.median(1).values > 0.9).all()


def test_the_default_says_its_scale_and_how_good_it_is() -> None:
    emulator = default()
    assert "ELODIE" in emulator.label_scale
    assert "LAMOST DR10" in emulator.accuracy
    assert "\n" not in emulator.label_scale + emulator.accuracy
    low, high, stars, teff, logg, feh = np.array(emulator.errors).T
    assert (low[1:] == high[:-1]).all()
    assert (np.array([stars, teff, logg, feh]) > 0).all()


def test_the_default_gives_sensible_flux_everywhere_between_its_bounds() -> None:
    """Also far from all stars of the library, where only the anchors hold the polynomials."""
    emulator = default()
    ends = [emulator.bounds[name] for name in emulator.labels]
    axes = np.geomspace(*ends[0], 30), np.linspace(*ends[1], 5), np.linspace(*ends[2], 4)
    labels = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    flux = emulator.on(emulator.edges, "vacuum").flux(torch.from_numpy(labels))
    assert flux.min() > -1.0
    assert flux.max() < 3.0


@pytest.mark.parametrize(
    ("name", "rms"),
    [
        ("HD001461", 0.02),
        ("HD000448", 0.02),
        ("HD027819", 0.02),
        ("HD095735", 0.03),
    ],  # G0 V, G9 III, A7 V, M2 V
)
def test_the_default_looks_like_a_star_of_its_library(shared: Path, name: str, rms: float) -> None:
    miles = np.load(shared / "miles/miles_v9.1.npz", allow_pickle=True)
    star = list(miles["name"]).index(name)
    labels = np.nan_to_num(miles["teff_logg_feh"][star])
    emulator = default()
    assert emulator.resolving_power is not None
    centre = np.sqrt(emulator.edges[1:] * emulator.edges[:-1])
    inside = (centre > 4200) & (centre < 7000)
    model = emulator.on(emulator.edges, "vacuum").flux(torch.from_numpy(labels[None]))[0].numpy()
    width = math.sqrt((2.54 / 5500) ** 2 - emulator.resolving_power**-2) / math.sqrt(8 * math.log(2))
    model = gaussian_filter1d(model, width / math.log(emulator.edges[1] / emulator.edges[0]))[inside]
    flux = np.interp(centre[inside], air_to_vacuum(miles["wave_air"]), miles["flux"][star])
    basis = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, len(flux)), 40)
    shape = basis @ np.linalg.lstsq(basis * model[:, None], flux, rcond=None)[0]
    residual = flux / shape - model
    assert np.std(residual) < rms
    assert np.std(residual) < 0.35 * np.std(flux / shape)
