"""Distances between two sets of points, in row blocks: a whole N × N matrix of 50,000 samples would take 20 GB."""

import warnings
from collections.abc import Iterator

import torch
from scipy.spatial import KDTree
from torch import Tensor

from gan_lab.evaluation.metrics.registry import Undefined

BLOCK_BYTES = 64 * 2**20
"""No block of distances, or of coordinates, is larger."""
PLANE = 3  # up to so many dimensions a tree is quicker than comparing all with all
SPARE = 8  # candidates beyond the k nearest, against ties that the rounding of the first pass puts in a wrong order


def finite(values: Tensor, least: int, name: str) -> Tensor:
    """`values` `(n, d)` in float64; Undefined with fewer than `least` rows or with a number that is NaN or infinite."""
    if len(values) < least:
        raise Undefined(f"{len(values)} {name}, but at least {least} are needed")
    if not values.isfinite().all():
        raise Undefined(f"some of the {name} are NaN or infinite")
    return values.double()


def nearest(queries: Tensor, points: Tensor, k: int, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query, nearest first, by Euclidean distance.

    Candidates are selected by |p|² − 2qp, which is one fast matrix product, and their distances then computed from the
    coordinates' differences: the product alone loses small distances between large coordinates, and would see a copy
    of a training sample at a distance from it. All in float64.
    Pitfall: points that coincide to 8 digits are all at distance 0, which of them are named is arbitrary.

    Args:
        queries: `(n, d)`, finite.
        points: `(m, d)`, finite, at least k (k + 1 with `skip_self`).
        skip_self: `queries` are `points`, and no point counts as its own neighbour; its copies do.

    Returns:
        Distances `(n, k)` ≥ 0 in float64, and the points' numbers `(n, k)`.
    """
    queries, points = finite(queries, 1, "queries"), finite(points, k + skip_self, "points")
    count = min(k + SPARE, len(points) - skip_self)
    select = _by_tree if points.shape[1] <= PLANE else _by_product
    found = []
    for rows, candidates in select(queries, points, count, skip_self):
        exact = _distances(rows[:, None], points[candidates])[:, 0]
        order = exact.argsort(dim=1, stable=True)[:, :k]
        found.append((exact.gather(1, order), candidates.gather(1, order)))
    return torch.cat([distances for distances, _ in found]), torch.cat([indices for _, indices in found])


def _by_product(queries: Tensor, points: Tensor, count: int, skip_self: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of queries and their `count` nearest points, in the points' order, from comparing all with all."""
    centre = points.mean(0)
    centred = points - centre
    squares, start = centred.square().sum(1), 0
    for rows in queries.split(_rows(max(len(points), count * points.shape[1]))):
        rough = torch.addmm(squares, rows - centre, centred.T, alpha=-2)
        if skip_self:
            rough.diagonal(start).fill_(torch.inf)
        yield rows, rough.topk(count, largest=False).indices.sort(1).values
        start += len(rows)


def _by_tree(queries: Tensor, points: Tensor, count: int, skip_self: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The same by a k-d tree, which in few dimensions looks at few points."""
    indices = torch.from_numpy(KDTree(points.numpy()).query(queries.numpy(), range(1, count + skip_self + 1))[1])
    if skip_self:  # a point is among its own nearest, unless as many copies of it came first
        own = indices == torch.arange(len(points))[:, None]
        own[~own.any(1), -1] = True
        indices = indices[~own].view(-1, count)
    yield queries, indices.sort(1).values


def blocks(queries: Tensor, points: Tensor) -> Iterator[Tensor]:
    """All distances `(rows, m)` of the queries `(n, d)` from the points `(m, d)`, a block of queries after the other.

    From the coordinates' differences, so that they compare with those of `nearest` to the last bit. That costs n·m·d
    operations outside the fast matrix product: reduce images to some tens of features first.
    """
    for rows in queries.double().split(_rows(len(points))):
        yield _distances(rows, points.double())


def partition(train: Tensor, others: list[Tensor], cells: int, seed: int) -> list[Tensor]:
    """The k-means cell of every training sample, and of every sample of the other sets: one `(n,)` per set.

    Undefined where the training samples are too few, or too much alike, to fill that many cells.
    """
    sets = [finite(values, 1, "samples").numpy() for values in (train, *others)]
    finite(train, cells, f"training samples for {cells} cells")
    from sklearn.cluster import KMeans  # half a second that the start of a training needn't wait for
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # fewer different samples than cells: said below
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(cells, n_init=1, random_state=seed).fit(sets[0])
    labels = [torch.from_numpy(model.predict(values)).long() for values in sets]
    if (labels[0].bincount(minlength=cells) == 0).any():
        raise Undefined(f"the training samples are too much alike to be divided into {cells} cells")
    return labels


def _rows(width: int) -> int:
    return max(1, BLOCK_BYTES // (8 * width))  # float64


def _distances(queries: Tensor, points: Tensor) -> Tensor:
    return torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
