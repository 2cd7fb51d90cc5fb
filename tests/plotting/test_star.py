"""The figure of one star: model, residual, masks by kind, labels and flags, from what is stored or from a new fit."""

import numpy as np
import pytest
from support.program import ok, refused

import specxr
from specxr.plotting import plot_star
from specxr.vocabulary import MaskBit


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    survey = specxr.synthesis.simulate_survey(4, seed=3, snr=(60.0, 90.0)).load()
    mask = survey["mask"].values
    mask[:, 800:805], mask[:, 900:903], mask[:, 1000] = MaskBit.SKY, MaskBit.BAD_ONCE, MaskBit.BAD_FLUX
    path = tmp_path_factory.mktemp("star") / "c.zarr"
    specxr.write_cube(survey.assign(mask=survey["mask"].copy(data=mask)), path)
    lasp = specxr.LASP(clean=True)
    specxr.run(path, lasp, name="stored", spectra=True)
    specxr.run(path, lasp, name="lasp", stars=[int(obsid) for obsid in survey["obsid"].values[1:]])
    return path


def lines_of(figure):
    figure.canvas.draw()
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_a_star_is_drawn_from_the_store_and_from_a_new_fit_alike(path):
    cube = specxr.open_cube(path)
    obsid = int(cube["obsid"].values[2])
    stored, again = plot_star(path, "stored", obsid), plot_star(path, "lasp", obsid)
    for figure in (stored, again):
        names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert names[:2] == ["data", "model"]
        assert {"no usable flux", "flagged by the survey", "sky, telluric, interstellar"} <= {*names}
        words = figure.get_suptitle()
        labels = specxr.open_labels(path, "lasp").isel(star=2)
        assert f"obsid {obsid}" in words
        assert f"teff {float(labels['teff']):.0f} ± {float(labels['teff_err']):.0f} K" in words
        assert "converged: the fit converged" in words
        assert "flags: " in words
    first, second = (lines_of(figure)["model"].get_ydata() for figure in (stored, again))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    residual = again.axes[1].lines[0].get_ydata()
    assert 0 < np.isnan(residual).sum() < 0.1 * residual.size


def test_labels_in_memory_a_window_and_a_spectrum_alone(path):
    cube = specxr.open_cube(path).isel(star=[1]).load()
    obsid = int(cube["obsid"].values[0])
    labels = specxr.infer(cube, specxr.LASP(), spectra=True)
    figure = plot_star(cube, labels, obsid, wavelength=(5100.0, 5250.0))
    assert figure.axes[0].get_xlim() == (5100.0, 5250.0)
    assert len(plot_star(cube, None, obsid).axes) == 1
    with pytest.raises(ValueError, match="0 pixels lie between 2000 and 2100"):
        plot_star(cube, None, obsid, wavelength=(2000.0, 2100.0))
    with pytest.raises(ValueError, match="name of a run, 'lasp', was given for a cube in memory"):
        plot_star(cube, "lasp", obsid)
    with pytest.raises(ValueError, match="1 obsids are not in the cube"):
        plot_star(cube, labels, -5)


def test_a_star_without_labels_is_drawn_without_a_model(path):
    obsid = int(specxr.open_cube(path)["obsid"].values[0])
    figure = plot_star(path, "lasp", obsid)
    assert len(figure.axes) == 1
    assert "not_fitted: " in figure.get_suptitle()


def test_a_model_that_cannot_be_had_is_said(path, tmp_path):
    obsid = int(specxr.open_cube(path)["obsid"].values[2])
    figure = plot_star(path, "lasp", obsid, estimator=tmp_path / "absent.fits")
    assert "no model: " in figure.get_suptitle()
    assert "absent.fits" in figure.get_suptitle()


def test_the_command_draws_stars(path, tmp_path):
    obsid = specxr.open_cube(path)["obsid"].values
    ok("plot", path, obsid[1], "--out", tmp_path / "a.png", "--window", 5000, 5200)
    ok("plot", path, "--where", "snr > 0", "--run", "stored", "--out", tmp_path / "all")
    assert sorted(file.name for file in (tmp_path / "all").iterdir()) == sorted(
        f"star-{n}.png" for n in obsid
    )
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    assert "--overwrite" in refused("plot", path, obsid[1], "--out", tmp_path / "a.png")
    assert "0 stars were chosen" in refused("plot", path)
    assert "a folder is required" in refused("plot", path, *obsid[:2], "--out", tmp_path / "b.png")
    assert "no labels 'x' (runs: lasp, stored)" in refused(
        "plot", path, obsid[1], "--run", "x", "--out", tmp_path
    )
    assert "not in the cube" in refused("plot", path, 12, "--out", tmp_path)
