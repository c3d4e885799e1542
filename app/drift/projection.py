"""The first two principal components of vectors, and nearest neighbours. Pure numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.embeddings import Vectors


class Axes(NamedTuple):
    """Fitted principal components."""

    mean: NDArray[np.float64]
    """(dimension,)"""
    components: NDArray[np.float64]
    """Orthonormal rows, largest variance first: (2, dimension)."""
    explained: NDArray[np.float64]
    """Share of the variance along each axis: (2,)."""


def fit(vectors: Vectors, weight: NDArray[np.int64]) -> Axes:
    """Return the first two principal components of vectors (n, dimension) that occur `weight` (n,) times each.

    A component's largest entry is positive, so that equal vectors always give the same orientation.
    """
    mean = np.average(vectors, axis=0, weights=weight).astype(np.float64)
    centred = vectors - mean
    covariance = (centred * weight[:, None]).T @ centred / weight.sum()
    variance, directions = np.linalg.eigh(covariance)
    components = directions[:, ::-1][:, :2].T
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[[0, 1], largest])
    total = variance.sum()
    explained = variance[::-1][:2] / total if total > 0 else np.zeros(2)
    return Axes(mean, components * signs[:, None], explained)


def project(axes: Axes, vectors: Vectors) -> NDArray[np.float64]:
    """Return coordinates on the axes: (n, 2)."""
    return (vectors - axes.mean) @ axes.components.T


def nearest(vectors: Vectors, place: int, among: NDArray[np.int64], k: int) -> list[tuple[int, float]]:
    """Return the `k` indices of `among` with the highest cosine to the vector at `place`, with the cosines.

    `place` itself and vectors of NaN are excluded.
    """
    others = among[(among != place) & np.isfinite(vectors[among, 0])]
    cosines = vectors[others] @ vectors[place]
    order = np.lexsort((others, -cosines))[:k]
    return [(int(others[i]), float(cosines[i])) for i in order]
