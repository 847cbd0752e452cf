"""Distances between two sets of points, in row blocks: a whole N × N matrix of 50,000 samples would take 20 GB."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gan_lab.evaluation.metrics.registry import Undefined

# Upper bound of a block of distances or coordinates: it stays in the processor's cache, and costs little memory.
BLOCK_BYTES = 4 * 2**20
MAX_TREE_DIMENSIONS = 3  # up to so many dimensions a tree is faster than comparing all with all
KMEANS_STEPS = 20
SPARE = 8  # candidates beyond the k nearest, because the first pass rounds and may order ties wrongly


def finite(values: Tensor, minimum: int, name: str) -> Tensor:
    """Returns `values` `(n, d)` in float64.

    Args:
        values: `(n, d)`.
        minimum: how many rows there must be.
        name: what the rows are, for the message.

    Raises:
        Undefined: if there are fewer rows, or one has a NaN or infinite number.
    """
    _check_finite(values, minimum, name)
    return values.double()


def _check_finite(values: Tensor, minimum: int, name: str) -> None:
    if len(values) < minimum:
        raise Undefined(f"{len(values)} {name}, but at least {minimum} are needed")
    if not values.isfinite().all():
        raise Undefined(f"some of the {name} are NaN or infinite")


def nearest(queries: Tensor, points: Tensor, k: int, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """Finds the k nearest points of each query, nearest first, by Euclidean distance, in float64.

    Candidates are selected by |p|² − 2qp, one fast matrix product; their distances are then computed from differences
    of coordinates. That product by itself loses small distances between large coordinates, and would see a copy of a
    training sample at some distance from it. Pitfall: of more than `SPARE` points around a query that differ by less
    than float32 tells, some 10⁻³ of the data's spread, some others may be returned than the nearest ones.

    Args:
        queries: `(n, d)`, finite.
        points: `(m, d)`, finite, at least k (k + 1 with `skip_self`).
        k: how many points.
        skip_self: whether `queries` are `points`, and no point counts as its own neighbour; its copies do.

    Returns:
        Distances `(n, k)` ≥ 0 in float64, and the points' indices `(n, k)`.
    """
    queries = finite(queries, 1, "queries")
    # In their own precision: in float64 a large set of images takes twice the memory.
    _check_finite(points, k + skip_self, "points")
    count = min(k + SPARE, len(points) - skip_self)
    select = _by_tree if points.shape[1] <= MAX_TREE_DIMENSIONS else _by_product
    # Made before the blocks: results kept between them would break up the memory that a block leaves, at random, so
    # that the next one takes new memory.
    distances = torch.empty(len(queries), k, dtype=torch.float64)
    indices = torch.empty(len(queries), k, dtype=torch.int64)
    start = 0
    for rows, candidates in select(queries, points, count, skip_self):
        stop = start + len(rows)
        exact = _distances(rows[:, None], points[candidates].double())[:, 0]
        order = exact.argsort(dim=1, stable=True)[:, :k]
        distances[start:stop] = exact.gather(1, order)
        indices[start:stop] = candidates.gather(1, order)
        start = stop
    return distances, indices


def _by_product(queries: Tensor, points: Tensor, count: int, skip_self: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields blocks of queries and their `count` nearest points, by index, from comparing all with all."""
    # Distances do not change; small coordinates lose fewer digits.
    centre = points.mean(0, dtype=torch.float64)
    # In float32, which takes half the time: what it rounds is less than what the spare candidates leave room for.
    centred = (points - centre).float()
    squares = torch.einsum("nd,nd->n", centred, centred)
    start = 0
    for rows in queries.split(_block_rows(max(len(points), count * points.shape[1]))):
        rough = torch.addmm(squares, (rows - centre).float(), centred.T, alpha=-2)
        if skip_self:
            rough.diagonal(start).fill_(torch.inf)
        yield rows, rough.topk(count, largest=False).indices.sort(1).values
        start += len(rows)


def _by_tree(queries: Tensor, points: Tensor, count: int, skip_self: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the same as `_by_product` from a k-d tree, which in few dimensions looks at few points."""
    from scipy.spatial import KDTree

    ranks = range(1, count + skip_self + 1)
    indices = torch.from_numpy(KDTree(points.double().numpy()).query(queries.numpy(), ranks)[1])
    if skip_self:
        # A point is among its own nearest, unless so many copies of it came first; then the last one goes.
        is_self = indices == torch.arange(len(points))[:, None]
        is_self[~is_self.any(1), -1] = True
        indices = indices[~is_self].view(-1, count)
    yield queries, indices.sort(1).values


def blocks(queries: Tensor, points: Tensor) -> Iterator[Tensor]:
    """Yields all distances `(rows, m)` of the queries `(n, d)` from the points `(m, d)`, block by block.

    From differences of coordinates, so that they equal those of `nearest` to the last bit. That takes n·m·d operations
    outside the fast matrix product: reduce images to some tens of features first.
    """
    for rows in queries.double().split(_block_rows(len(points))):
        yield _distances(rows, points.double())


def nearest_in_classes(queries: Tensor, points: Tensor, counts: list[int], skip_self: bool = False) -> Tensor:
    """Returns each query's distance to the nearest point of each class, `(n, classes)` float32; inf for empty classes.

    In float32 and by |q|² + |p|² − 2qp, which is fast; small distances between large coordinates lose digits.

    Args:
        queries: `(n, d)`, finite.
        points: `(m, d)`, finite, sorted by class.
        counts: points of each class.
        skip_self: whether `queries` are `points`, and no point counts as its own neighbour.
    """
    points = points.float()
    squares = points.square().sum(1)
    # Made before the blocks, as in `nearest`; of an empty class they stay as they are.
    minima = torch.full((len(queries), len(counts)), torch.inf)
    start = 0
    for rows in queries.float().split(_block_rows(len(points))):
        stop = start + len(rows)
        # |q|² is added last: it does not change which point is nearest.
        distances = torch.addmm(squares, rows, points.T, alpha=-2)
        if skip_self:
            distances.diagonal(start).fill_(torch.inf)
        squares_of_rows = rows.square().sum(1)
        for label, part in enumerate(distances.split(counts, dim=1)):
            if part.shape[1]:
                minima[start:stop, label] = (part.amin(1) + squares_of_rows).clamp(min=0).sqrt()
        start = stop
    return minima


def partition(train: Tensor, others: list[Tensor], cells: int, seed: int) -> list[Tensor]:
    """Assigns the training samples, and those of other sets, to the k-means cells of the training samples.

    Args:
        train: `(m, d)`.
        others: each `(n, d)`.
        cells: the number of cells.
        seed: of k-means.

    Returns:
        The cells `(n,)` of each set, the training samples first.

    Raises:
        Undefined: if the training samples are too few, or too similar, to fill that many cells.
    """
    from scipy.cluster.vq import kmeans2, vq

    sets = [finite(values, 1, "samples").numpy() for values in (train, *others)]
    finite(train, cells, f"training samples for {cells} cells")
    too_similar = Undefined(f"the training samples are too similar to be divided into {cells} cells")
    if len(np.unique(sets[0], axis=0)) < cells:
        raise too_similar
    with warnings.catch_warnings():
        # It warns of empty cells, which are refused below.
        warnings.simplefilter("ignore", UserWarning)
        centres, _ = kmeans2(sets[0], cells, iter=KMEANS_STEPS, minit="++", rng=seed)
    labels = [torch.from_numpy(vq(values, centres)[0]).long() for values in sets]
    if (labels[0].bincount(minlength=cells) == 0).any():
        raise too_similar
    return labels


def _block_rows(width: int) -> int:
    """Returns how many rows of `width` float64 numbers a block has."""
    return max(1, BLOCK_BYTES // (8 * width))


def _distances(queries: Tensor, points: Tensor) -> Tensor:
    return torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
