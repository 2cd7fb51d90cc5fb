"""The networks of the regressors: a body that reads a spectrum, and one head for each label.

The inputs of a star are one row: standardised pixels, the share of good pixels in pieces of 20, the logarithm of the
S/N. Convolutions and sequences see the share beside the pixels; the S/N joins before the heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from specxr.estimators.regressors.inputs import PIECE

_TILE = 8  # BLAS sums the rows of an output that is no multiple of it in orders of their own


class Network(nn.Module):
    """A body and its heads.

    Parameters
    ----------
    body : Module
        From rows of inputs to features.
    n_feature : int
    n_output : int
        Two for each label, its mean and the logarithm of its variance, and one for each class.
    """

    def __init__(self, body: nn.Module, n_feature: int, n_output: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_feature, -(-n_output // _TILE) * _TILE)
        self.n_output = n_output

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs, shape (star, output), of rows of inputs."""
        out: Tensor = self.head(self.body(rows))
        return out[:, : self.n_output]


class _Channels(nn.Module):
    """Pixels and their share of good ones as two channels; the features of a sequence, and the S/N."""

    def __init__(self, n_pixel: int, sequence: nn.Module) -> None:
        super().__init__()
        self.n_pixel = n_pixel
        self.sequence = sequence

    def forward(self, rows: Tensor) -> Tensor:
        pixels, share, snr = rows[:, : self.n_pixel], rows[:, self.n_pixel : -1], rows[:, -1:]
        told = share.repeat_interleave(PIECE, dim=1)[:, : self.n_pixel]
        features: Tensor = self.sequence(torch.stack([pixels, told], dim=1))
        return torch.cat([features, snr], dim=1)


class _Pieces(nn.Module):
    """Pieces of 20 pixels with their share of good ones, as a sequence, shape (star, piece, 21)."""

    def forward(self, channels: Tensor) -> Tensor:
        missing = -channels.shape[2] % PIECE
        pixels, told = nn.functional.pad(channels, (0, missing)).view(len(channels), 2, -1, PIECE).unbind(1)
        return torch.cat([pixels, told[:, :, :1]], dim=2)


class _Recurrent(nn.Module):
    """Gated recurrent units over the pieces; the last state (Li & Lin 2023; the language paper has three layers)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.pieces = _Pieces()
        self.units = nn.GRU(PIECE + 1, width, num_layers=layers, batch_first=True)

    def forward(self, channels: Tensor) -> Tensor:
        states: Tensor = self.units(self.pieces(channels))[0]
        return states[:, -1]


class _Attention(nn.Module):
    """A small transformer over the pieces, with learnt positions; the mean of its outputs."""

    def __init__(self, n_piece: int, width: int, layers: int) -> None:
        super().__init__()
        self.pieces = _Pieces()
        self.enter = nn.Linear(PIECE + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(n_piece, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, channels: Tensor) -> Tensor:
        pieces = self.enter(self.pieces(channels)) + self.position
        out: Tensor = self.layers(pieces)
        return out.mean(dim=1)


class _Bottleneck(nn.Module):
    """Three convolutions beside a shortcut (He et al. 2016, Fig. 5), along one axis."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.convolutions = nn.Sequential(
            nn.Conv1d(inputs, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 3, stride, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, outputs, 1, bias=False), nn.BatchNorm1d(outputs),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(
            nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs)
        )  # fmt: skip

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.convolutions(values) + self.shortcut(values))


def _dense(n_pixel: int, width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    layers: list[nn.Module] = []
    for inputs, outputs in zip((width, *hidden[:-1]), hidden, strict=True):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers), hidden[-1]


def _small_cnn(n_pixel: int, width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    # Two convolutions and two dense layers, as StarNet has them (Fabbro et al. 2018).
    convolutions = nn.Sequential(
        nn.Conv1d(2, 4, 9, padding=4), nn.ReLU(), nn.Conv1d(4, 16, 9, padding=4), nn.ReLU(),
        nn.MaxPool1d(4), nn.Flatten(), nn.Linear(16 * (n_pixel // 4), hidden[0]), nn.ReLU(),
        nn.Linear(hidden[0], hidden[-1]), nn.ReLU(),
    )  # fmt: skip
    return _Channels(n_pixel, convolutions), hidden[-1] + 1


def _resnet50(n_pixel: int, width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    layers: list[nn.Module] = [
        nn.Conv1d(2, 64, 7, 2, 3, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.MaxPool1d(3, 2, 1)
    ]  # fmt: skip
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            layers.append(_Bottleneck(inputs, 64 << stage, 2 if stage and not block else 1))
            inputs = 256 << stage
    return _Channels(n_pixel, nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())), inputs + 1


def _gru(n_pixel: int, width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    return _Channels(n_pixel, _Recurrent(hidden[-1], 3)), hidden[-1] + 1


def _patches(n_pixel: int, width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    n_piece = -(-n_pixel // PIECE)
    return _Channels(n_pixel, _Attention(n_piece, hidden[-1], 3)), hidden[-1] + 1


_BODIES: dict[str, Callable[[int, int, tuple[int, ...]], tuple[nn.Module, int]]] = {
    "dense": _dense,
    "small_cnn": _small_cnn,
    "resnet50": _resnet50,
    "gru": _gru,
    "patches": _patches,
}
NETWORKS = tuple(_BODIES)


def build_network(name: str, n_pixel: int, hidden: tuple[int, ...], n_output: int, seed: int) -> Network:
    """Build a network with first weights that depend on the seed alone."""
    width = n_pixel - (-n_pixel // PIECE) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, n_feature = _BODIES[name](n_pixel, width, hidden)
        return Network(body, n_feature, n_output)
