"""How well the kept sets stand for all: distances to the nearest kept one, beside random samples of the same size.

Legend: N candidates, S kept, M candidates measured, D dims of a point.
"""

import dataclasses
from typing import Any

import numpy as np

from rsfm_jax.curate.assign import nearest

DRAWS = 5
MEASURED = 20_000


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What was measured.

    Attributes:
      measured: How many candidates, M.
      curated_M: Distance of each to the nearest kept set, float32.
      random_M: The same with the first random sample.
      figures: Mean, 95th percentile and largest distance, and clusters covered, of the kept sets and of the random samples (mean and
        sample standard deviation over the draws).
    """

    measured: int
    curated_M: np.ndarray
    random_M: np.ndarray
    figures: dict[str, Any]


def measure(points_ND: np.ndarray, cluster_N: np.ndarray, kept_N: np.ndarray, seed: int) -> Coverage:
    """Compares the kept sets with random samples of as many candidates.

    Args:
      points_ND: All candidates, float32.
      cluster_N: Their clusters.
      kept_N: Which are kept, bool.
      seed: Of the samples, and of which candidates are measured where there are more than 20 000.

    Returns:
      The coverage.
    """
    rng = np.random.default_rng(seed)
    count, size = len(points_ND), int(kept_N.sum())
    measured = points_ND if count <= MEASURED else points_ND[np.sort(rng.choice(count, MEASURED, replace=False))]
    curated = _distances(measured, points_ND[kept_N])
    draws = [np.sort(rng.choice(count, size, replace=False)) for _ in range(DRAWS)]
    distances = [_distances(measured, points_ND[rows]) for rows in draws]
    samples = [_figures(found, cluster_N[rows]) for found, rows in zip(distances, draws, strict=True)]
    names = list(samples[0])
    random = {name: [float(sample[name]) for sample in samples] for name in names}
    figures = {
        "clusters": len(np.unique(cluster_N)),
        "kept": _figures(curated, cluster_N[kept_N]),
        "random": {name: float(np.mean(values)) for name, values in random.items()},
        "random_sd": {name: float(np.std(values, ddof=1)) for name, values in random.items()},
        "random_draws": DRAWS,
        "measured": len(measured),
    }
    return Coverage(len(measured), curated, distances[0], figures)


def _distances(points_MD: np.ndarray, kept_SD: np.ndarray) -> np.ndarray:
    return np.sqrt(nearest(points_MD, kept_SD)[1])


def _figures(distances: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    return {
        "mean_distance": float(distances.mean()),
        "p95_distance": float(np.percentile(distances, 95)),
        "largest_distance": float(distances.max()),
        "clusters_covered": len(np.unique(clusters)),
    }
