"""Support vector regression by scikit-learn (libsvm), pixel after pixel: what `svr.Batched` is held against."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from specxr.kernels.machines.rbf import Kernel
from specxr.kernels.machines.svr import Machines

_TOLERANCE = 1e-4  # libsvm's own default of 1e-3 leaves predictions 4e-4 from the optimum


class Reference:
    """scikit-learn's SVR with the interface of ``svr.Batched``."""

    def __init__(self, kernel: Kernel, c: float) -> None:
        self._matrix, self._c = kernel.matrix.cpu().numpy(), c

    def search(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Solve, as ``solve`` does."""
        return self.solve(flux, weight, epsilon)

    def solve(self, flux: Tensor, weight: Tensor, epsilon: Tensor) -> Machines:
        """Solve each pixel; parameters as in ``svr.Batched.solve``."""
        from sklearn.svm import SVR

        dual = np.zeros(flux.shape)
        intercept = np.zeros(flux.shape[1])
        for pixel, width in enumerate(epsilon.tolist()):
            share = weight[:, pixel].double().cpu().numpy()
            rows = np.flatnonzero(share)
            machine = SVR(kernel="precomputed", C=self._c, epsilon=width, tol=_TOLERANCE)
            matrix = self._matrix[np.ix_(rows, rows)]
            machine.fit(matrix, flux[rows, pixel].cpu().numpy(), sample_weight=share[rows])
            dual[rows[machine.support_], pixel] = machine.dual_coef_[0]
            intercept[pixel] = machine.intercept_[0]
        return Machines(torch.from_numpy(dual).to(flux), torch.from_numpy(intercept).to(flux))
