"""Responses to abundances, and the generator that adds them to another one."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import specxr
from specxr.emulators import default
from specxr.readers.lamost_lrs import GRID
from specxr.spectra.line_spread import LineSpread
from specxr.synthesis import EmulatorSpectra, Instrument, Responses, WithAbundances, make_training_set
from specxr.synthesis.designs import Uniform, draw

CENTRES = {"mg_fe": 4481.1, "si_fe": 4552.6}  # Angstrom, air


def responses(**changes) -> Responses:
    """Lines that grow with the abundance, one of each element; that of silicon with temperature as well."""
    edges = 10.0 ** np.arange(np.log10(4400.0), np.log10(4650.0), 0.5e-4)
    middle = 0.5 * (edges[1:] + edges[:-1])
    lines = np.stack([-0.3 * np.exp(-0.5 * (middle - centre) ** 2) for centre in CENTRES.values()])
    slope = np.broadcast_to(lines, (2, 2, *lines.shape)).astype("f4").copy()
    slope[1, :, 1] *= 3.0  # hot stars
    slope[:, 1, 1] *= 2.0  # dwarfs
    arrays = {"teff": np.array([8000.0, 12000.0]), "logg": np.array([3.0, 5.0]), "edges": edges}
    return Responses(tuple(CENTRES), **{**arrays, "slope": slope, "curvature": 0.1 * slope, **changes})


def generator(**changes) -> WithAbundances:
    return WithAbundances(EmulatorSpectra(default()), responses(**changes))


def test_responses_are_linear_in_ln_teff_and_logg_and_stay_at_the_edges():
    given = responses()
    teff = np.array([8000.0, np.sqrt(8000.0 * 12000.0), 12000.0, 20000.0, 5000.0])
    slope, curvature = given.at(teff, np.full(5, 4.0))
    peaks = slope[:, 1].min(axis=-1) / given.slope[0, 0, 1].min()
    # The mean of both gravities is 1.5 times the response of giants.
    np.testing.assert_allclose(peaks, np.array([1.0, 2.0, 3.0, 3.0, 1.0]) * 1.5, rtol=1e-5)
    np.testing.assert_allclose(slope[1, 0], given.slope[0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(curvature, 0.1 * slope, rtol=1e-4, atol=1e-9)


def test_a_grid_of_one_gravity_has_the_same_responses_at_all():
    given = responses()
    one = replace(given, logg=given.logg[:1], slope=given.slope[:, :1], curvature=given.curvature[:, :1])
    np.testing.assert_array_equal(*(one.at(np.array([9000.0]), np.array([g]))[0] for g in (2.0, 4.5)))
    single = replace(one, teff=one.teff[:1], slope=one.slope[:1], curvature=one.curvature[:1])
    np.testing.assert_array_equal(
        single.at(np.array([9000.0, 7000.0]), np.full(2, 4.0))[0][1], one.slope[0, 0]
    )


def test_without_a_change_the_spectrum_is_that_of_the_base():
    made = generator()
    labels = np.array([[9000.0, 4.0, 0.0, 0.0, 0.0], [9000.0, 4.0, 0.0, 0.4, 0.0]])
    solar, rich = made.spectra(labels)
    np.testing.assert_array_equal(solar, EmulatorSpectra(default()).spectra(labels[:1, :3])[0])
    ratio = rich / solar
    middle = specxr.kernels.refraction.vacuum_to_air(0.5 * (made.edges[1:] + made.edges[:-1]))
    assert abs(middle[np.argmin(ratio)] - CENTRES["mg_fe"]) < 0.5
    # The base has R = 3000, and the response is as broad: 1.0 of its own and 0.63 Angstrom.
    assert 0.895 < ratio.min() < 0.91
    assert (ratio[abs(middle - CENTRES["mg_fe"]) > 10.0] == 1.0).all()


def test_it_travels_to_workers():
    made = generator()
    labels = np.array([[9000.0, 4.0, 0.0, 0.4, -0.2]])
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(made.spectra(labels), again.spectra(labels))
    assert again.labels == ("teff", "logg", "feh", "mg_fe", "si_fe")


def test_files_keep_what_was_computed(tmp_path):
    given, path = responses(), tmp_path / "responses.npz"
    given.write(path)
    read = Responses.read(path)
    assert read.elements == given.elements
    np.testing.assert_array_equal(read.edges, given.edges)
    np.testing.assert_allclose(read.slope, given.slope, rtol=1e-3, atol=1e-6)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no file of responses"):
        Responses.read(path)


def test_responses_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="finite numbers of the shape"):
        responses(teff=np.array([8000.0]))
    bad = responses().slope.copy()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="slope"):
        responses(slope=bad)


def test_a_generator_that_has_the_element_is_refused():
    with pytest.raises(ValueError, match="other labels in the second"):
        WithAbundances(generator(), responses())


def test_abundances_are_recovered_through_the_hybrid():
    made = generator()
    grid = replace(GRID[760:1020], line_spread=LineSpread.constant(1800))
    ranges = {"teff": Uniform(8000, 12000), "logg": Uniform(3, 5), "feh": Uniform(-0.5, 0.5)}
    ranges |= dict.fromkeys(CENTRES, Uniform(-0.6, 0.6))

    def stars(n, seed, snr):
        return make_training_set(
            draw(ranges, n, seed), made, Instrument(grid), None, snr=snr, seed=seed
        ).load()

    def learnt(labels):
        slam = specxr.SLAM(loss="squared", c=(1e3, 1e5), gamma=(0.01, 0.1), max_velocity=100.0)
        return specxr.train(training, slam, labels)

    training, test = (
        cube.assign_attrs(normalisation="") for cube in (stars(400, 1, 1000.0), stars(60, 2, 200.0))
    )
    hybrid = specxr.Hybrid(learnt(["teff", "logg", "feh"]), learnt(["teff", "logg", "feh", *CENTRES]))
    found = specxr.infer(test.drop_vars(list(ranges)), hybrid)
    good = found["result"].values == 0
    assert good.mean() > 0.8
    for name in CENTRES:
        difference = (found[name] - test[name]).values[good]
        assert abs(np.median(difference)) < 0.05, name
        assert np.std(difference) < 0.2, name
