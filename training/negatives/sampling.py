"""Negatives without a search: any document (global), or one of the cluster in which a query lies (local). No paddle."""

import numpy as np

from training.negatives.mining import BLOCK, Search

SPREAD = 1 / 6  # of a normal distribution: its standard deviation, as a share of the corpus
ITERATIONS, PER_CLUSTER = 20, 256  # of k-means; and how many vectors a cluster are enough to find its centre


def first_only(drawn: np.ndarray) -> np.ndarray:
    """Return the same with -1 where a number stands in its row again. drawn: int64 [rows, k]."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ranked = np.take_along_axis(drawn, order, 1)
    again = np.zeros(drawn.shape, bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], 1)
    return np.where(again, -1, drawn)


def anywhere(documents: int, k: int, seed: int, around: np.ndarray | None = None) -> Search:
    """Return a search that gives k documents drawn at random, each once, -1 behind those that were drawn again.

    around: int64 [queries], each query's own place among the documents, where draws shall be normal: round that place,
    with a standard deviation of a sixth of the corpus, clipped to its ends. Else they are uniform. Scores are 0.
    """
    def search(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, 2, int(block[0])])
        if around is not None:
            drawn = np.rint(rng.normal(around[block, None], SPREAD * documents, [len(block), k])).astype(np.int64)
            drawn = first_only(drawn.clip(0, documents - 1))
        elif documents <= 4 * k:
            drawn = rng.random([len(block), documents], np.float32).argsort(axis=1)[:, :k]
        else:
            drawn = first_only(rng.integers(0, documents, [len(block), k]))
        drawn = np.take_along_axis(drawn, np.argsort(drawn < 0, axis=1, kind="stable"), 1)
        return drawn, np.zeros(drawn.shape, np.float32)

    return search


def cluster_count(documents: int) -> int:
    """Return how many clusters to make where no flag says it: the square root of half the documents."""
    return max(1, round((documents / 2) ** 0.5))


class Clusters:
    """K-means over vectors (Lloyd 1982, started as k-means++ of Arthur and Vassilvitskii 2007).

    vectors: float32 [documents, width]. The centres come from at most 256 vectors a cluster, drawn by the seed.
    centres: float32 [clusters, width]; of: each document's cluster, int64 [documents].
    """

    def __init__(self, vectors: np.ndarray, count: int, seed: int) -> None:
        from sklearn.cluster import KMeans

        rng = np.random.default_rng([seed, 3])
        some = vectors
        if len(vectors) > PER_CLUSTER * count:
            some = vectors[np.sort(rng.choice(len(vectors), PER_CLUSTER * count, replace=False))]
        some = np.unique(np.asarray(some, np.float32), axis=0)  # k-means++ wants as many different ones as clusters
        count = min(count, len(some))
        found = KMeans(count, n_init=1, max_iter=ITERATIONS, random_state=int(rng.integers(2**31))).fit(some)
        self.centres = np.asarray(found.cluster_centers_, np.float32)
        self.of = self.nearest(vectors)
        order = np.argsort(self.of, kind="stable")
        self.members, self.starts = order, np.asarray(np.searchsorted(self.of[order], np.arange(count + 1)))

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """Return the cluster of each vector, int64 [vectors]."""
        half = (self.centres**2).sum(axis=1) / 2
        parts = [(vectors[start : start + BLOCK] @ self.centres.T - half).argmax(axis=1)
                 for start in range(0, len(vectors), BLOCK)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def in_cluster(vectors: np.ndarray, queries: np.ndarray, count: int, k: int, seed: int, search: Search) -> Search:
    """Return a search that gives up to k documents of a query's cluster in random order, then its nearest others.

    vectors, queries: float32 [documents or queries, width]; count: of clusters. search: what finds the nearest, asked
    for queries whose cluster has fewer than k documents alone. Scores are inner products; -1 behind the last document.
    """
    clusters = Clusters(vectors, count, seed)
    own = clusters.nearest(queries)
    sizes = np.diff(clusters.starts)

    def drawn(block: np.ndarray) -> np.ndarray:
        rng, found = np.random.default_rng([seed, 4, int(block[0])]), np.full([len(block), k], -1, np.int64)
        for row, cluster in enumerate(own[block]):
            start, size = clusters.starts[cluster], sizes[cluster]
            places = rng.permutation(size) if size <= k else rng.choice(size, k, replace=False)
            found[row, : len(places)] = clusters.members[start + places]
        return found

    def local(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = drawn(block)
        small = np.flatnonzero(sizes[own[block]] < k)
        if len(small):
            near = search(block[small])[0]
            outside = (near >= 0) & (clusters.of[np.maximum(near, 0)] != own[block[small]][:, None])
            both = np.concatenate([found[small], np.where(outside, near, -1)], axis=1)
            order = np.argsort(both < 0, axis=1, kind="stable")[:, :k]
            found[small] = np.take_along_axis(both, order, 1)
        scores = np.einsum("ij,ikj->ik", queries[block], vectors[np.maximum(found, 0)])
        return found, scores

    return local
