"""What users of xarray and notebooks expect: methods of the Dataset, reprs of one line, names that are public."""

import numpy as np
import pytest
from support.fakes import Mean, write_fake_cube
from support.trained import training_cube

import specxr


def test_a_cube_has_methods(tmp_path):
    path = write_fake_cube(tmp_path / "c.zarr", 6, star_chunk=2, snr_g=np.arange(6.0))
    specxr.run(path, Mean(), name="a", spectra=True)
    cube = specxr.open_cube(path).isel(star=[4, 1])
    table = cube.specxr.table("a", "snr_g")
    assert table["obsid"].tolist() == [1004, 1001]
    assert table["snr_g"].tolist() == [4.0, 1.0]
    labels = cube.specxr.infer(Mean())
    np.testing.assert_array_equal(labels["teff"], table["teff"])
    np.testing.assert_array_equal(cube.specxr.labels("a")["teff"], table["teff"])
    assert cube.specxr.table(labels)["teff"].tolist() == table["teff"].tolist()
    assert len(cube.specxr.plot(1004, "a").axes) == 2
    assert len(cube.specxr.plot(1004).axes) == 1
    bare = specxr.make_cube(cube["flux"], None, cube["wavelength"], medium="vacuum")
    with pytest.raises(ValueError, match="was not opened from a store"):
        bare.specxr.table("a")


def test_estimators_and_emulators_are_one_line():
    emulator = specxr.emulators.open_emulator("default")
    assert repr(emulator).startswith("<PolynomialEmulator 'default': teff ")
    trained = specxr.train(training_cube(40), specxr.SLAM(loss="squared", c=(100.0,), gamma=(0.1,)))
    for thing in (emulator, specxr.LASP(), specxr.Payne(), specxr.SLAM(), trained):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 1000


def test_only_public_names_are_offered():
    assert sorted(dir(specxr)) == sorted(specxr.__all__)
    assert {"make_cube", "resample", "from_specutils", "label_table", "LASP"} <= {*dir(specxr)}
    for name in dir(specxr):
        assert getattr(specxr, name) is not None
