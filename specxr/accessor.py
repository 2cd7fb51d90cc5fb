"""What one does with a cube, as methods of the Dataset: ``cube.specxr.infer(...)``, ``.plot(obsid)``, ``.table``."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr


@xr.register_dataset_accessor("specxr")  # type: ignore[no-untyped-call]
class CubeAccessor:
    """Methods of a cube, which `import specxr` adds to every Dataset.

    Parameters
    ----------
    cube : Dataset
        The cube. Runs are found by name if it was opened by `specxr.open_cube`, or is a selection of such a cube.
    """

    def __init__(self, cube: xr.Dataset) -> None:
        self._cube = cube

    def infer(self, estimator: Any, **options: Any) -> xr.Dataset:
        """Labels of the stars of the cube, see `specxr.infer`."""
        from specxr.inference import infer

        return infer(self._cube, estimator, **options)

    def labels(self, run: str) -> xr.Dataset:
        """Labels of a run for the stars of the cube, see `specxr.open_labels`."""
        from specxr.cubes.choice import places_of
        from specxr.cubes.store import open_labels

        labels = open_labels(self._path(), run)
        return labels.isel(star=places_of(labels, self._cube["obsid"].values))

    def table(self, run: str | xr.Dataset, *variables: str) -> pd.DataFrame:
        """Labels of a run, or labels of `infer`, as a table with these variables of the cube beside them."""
        from specxr.cubes.tables import label_table

        labels = run if isinstance(run, xr.Dataset) else self.labels(run)
        return label_table(labels, self._cube[list(variables)] if variables else None)

    def plot(self, obsid: int, run: str | xr.Dataset | None = None, **options: Any) -> Any:
        """Figure of one star, with the model of a run or of labels of `infer`; see `specxr.plotting.plot_star`."""
        from specxr.plotting.star import plot_star

        named = isinstance(run, str)
        return plot_star(self._path() if named else self._cube, run, obsid, **options)

    def _path(self) -> str:
        path = self._cube.encoding.get("source")
        if path is None:
            raise ValueError(
                "the cube was not opened from a store, so that it has no runs; labels, or a cube of specxr.open_cube, "
                "are required. Give what specxr.infer returned in place of the name of a run."
            )
        return str(path)
