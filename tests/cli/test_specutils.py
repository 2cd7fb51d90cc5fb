import numpy as np
import pytest
from support.program import ok, refused, run

import specxr

pytest.importorskip("specutils", reason="specutils is not installed: pip install 'specxr[specutils]'")


def text_file(path, low=5000.0, step=0.5, power=1.0, n=300):
    """Columns of wavelength, flux and error, as the reader of the format ASCII takes them."""
    wavelength = low + (step * np.arange(n)) ** power
    lines = ["wavelength flux uncertainty", *(f"{w:.4f} {w / 1000:.6f} 0.1" for w in wavelength)]
    path.write_text("\n".join(lines))
    return path


def test_text_files_become_a_cube_on_one_grid(tmp_path):
    files = [text_file(tmp_path / f"{i}.txt", low=5000.0 + 10 * i, step=1.0, power=1.02) for i in range(2)]
    (tmp_path / "c.txt").write_text("no spectrum")
    words = ("ingest", "specutils", *files, tmp_path / "c.txt", "--format", "ASCII", "--medium", "air")
    result = run(*words, "--log-step", "1e-4", "--out", tmp_path / "cube.zarr")
    assert result.exit_code == 0, result.output
    assert "c.txt: " in result.stderr
    assert "2 stars" in result.stdout
    assert "1 files without a spectrum" in result.stdout
    cube = specxr.open_cube(tmp_path / "cube.zarr")
    assert cube["file"].values.tolist() == ["0.txt", "1.txt"]
    assert cube["wavelength"].attrs["medium"] == "air"
    inside = ((cube["wavelength"] > 5015) & (cube["wavelength"] < 5300)).values
    expected = np.broadcast_to(cube["wavelength"].values / 1000, cube["flux"].shape)
    np.testing.assert_allclose(cube["flux"].values[:, inside], expected[:, inside], rtol=2e-4)
    assert (cube["ivar"].values[:, inside] > 0).all()


def test_pixels_that_differ_are_told_by_file(tmp_path):
    files = [
        text_file(tmp_path / f"{name}.txt", low)
        for name, low in (("a", 5000.0), ("b", 5001.0), ("c", 5000.0))
    ]
    out = ("--out", tmp_path / "cube.zarr")
    result = run("ingest", "specutils", *files, "--format", "ASCII", "--medium", "air", *out)
    assert "b.txt: ValueError: spectrum 1 has 300 pixels" in result.stderr
    assert "2 stars" in result.stdout


def test_what_is_missing_is_said(tmp_path):
    file = text_file(tmp_path / "a.txt")
    out = ("--out", tmp_path / "c.zarr")
    assert "a format, a medium" in refused("ingest", "specutils", file, *out)
    assert "the survey specutils" in refused("ingest", "boss", file, "--format", "ASCII", *out)
    assert "none of 1 files" in refused("ingest", "specutils", file, "--format", "x", "--medium", "air", *out)


def test_surveys_are_ingested_by_name(tmp_path):
    from support.surveys import write_apstar, write_desi, write_spec

    for survey, write in (("boss", write_spec), ("desi", write_desi), ("apogee", write_apstar)):
        folder = tmp_path / survey
        folder.mkdir()
        write(folder / "a.fits")
        (folder / "b.fits").write_text("SIMPLE")
        words = ("ingest", survey, folder, "--out", tmp_path / f"{survey}.zarr", "--workers", "1")
        assert "1 files without a spectrum" in ok(*words)
