"""Inner folds of a training side, on which the strength of a probe is chosen.

Legend: N samples, K labels.
"""

import warnings

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.probing.probe_models import Kind


def inner_folds(kind: Kind, targets: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deals a training side to folds that tear no group.

    Args:
      kind: Of the targets; classes are spread over the folds.
      targets: As the probes take them, (N,) or (N, K).
      groups: Samples with the same entry share a fold, (N,).
      folds: How many, or fewer where there are fewer groups.
      seed: Deals them.

    Returns:
      (fit, held out) indices; folds that can't be fitted or scored are left out.

    Raises:
      InputError: There are no groups, too few of them, no class has two samples, or no fold is left.
    """
    if groups is None:
        raise InputError("the training side has no groups, which inner folds need; give np.arange(N) only if samples are independent")
    count = min(folds, len(np.unique(groups)))
    if kind == "classification":  # the dealer takes no more folds than the largest class has samples
        largest = int(np.unique(targets, return_counts=True)[1].max())
        if largest < 2:
            raise InputError("no class has two samples to choose the strength by on inner folds; give per_class of 2 or more")
        count = min(count, largest)
    if count < 2:
        raise InputError(f"inner folds: {folds} asked for and {len(np.unique(groups))} groups; expected at least 2 of both")
    dealer = (StratifiedGroupKFold if kind == "classification" else GroupKFold)(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        dealt = list(dealer.split(np.zeros(len(targets)), targets, groups))

    def usable(rows: np.ndarray, held: np.ndarray) -> bool:
        if kind == "classification":
            return len(held) > 0 and len(np.unique(targets[rows])) > 1
        return kind == "regression" or bool(targets[held].any())

    kept = [(rows, held) for rows, held in dealt if usable(rows, held)]
    if not kept:
        raise InputError(f"none of {count} inner folds over {len(np.unique(groups))} groups has two classes; give finer groups")
    return kept
