"""Probes of frozen features: logistic regression on the land-cover labels, with all labels and few, over several draws.

    python benchmarks/probe.py --data=FOLDER --seeds 0 1 2 --out=baselines.json

Prints what features made without labels or training reach, the bar for any encoder. Knows nothing of models: `evaluate` asks a callable for
the features of pixels.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
import pathlib
import statistics
import sys
from typing import Any
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.land_cover import DATA, Features, Labels, Scene, baselines, draw, read_labels, read_scene, split
from rsfm_jax.errors import exit_code

PER_CLASS = (None, 100, 10)
DRAWS = 5  # of few labels; a seed's figure is their mean
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # inverse regularisation of the probe
FOLDS = 3
BLOCK_PX = 16  # columns of the map and points that share a fold


def probe(
    train_X: np.ndarray,
    train_y: np.ndarray,
    test_X: np.ndarray,
    test_y: np.ndarray,
    per_class: int | None,
    seed: int,
    train_blocks: np.ndarray | None = None,
) -> dict[str, float]:
    """Logistic regression on standardised features; its regularisation is chosen for accuracy by cross-validation on the training side.

    Args:
      train_X: Features (N, F).
      train_y: Classes, int (N,).
      test_X: Features (M, F).
      test_y: Classes, int (M,).
      per_class: How many training labels to draw of each class, or all where it has fewer; None for all labels.
      seed: Draws the labels and the folds.
      train_blocks: Labels with the same number, int (N,), share a fold; None for a block of each label.

    Returns:
      `accuracy`, `macro_f1` over the classes present in the test set, `train_n` and `test_n`.
    """
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(train_y)) if per_class is None else draw(train_y, per_class, rng)
    features, classes = train_X[chosen], train_y[chosen]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
    blocks = np.arange(len(train_y)) if train_blocks is None else train_blocks
    folds = _folds(classes, blocks[chosen], seed)
    search = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=folds, scoring="accuracy")
    with threadpool_limits(1):  # such small fits are several times slower where threads wait for each other on busy cores
        search.fit(features, classes)
    predicted, present = search.predict(test_X), np.unique(test_y)
    macro_f1 = f1_score(test_y, predicted, labels=present, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    return {
        "accuracy": float(accuracy_score(test_y, predicted)),
        "macro_f1": float(macro_f1),
        "train_n": len(chosen),
        "test_n": len(test_y),
    }


def evaluate(
    features_of: Features, scene: Scene, labels: Mapping[str, Labels], seeds: Sequence[int], margin_px: int = 32
) -> list[dict[str, Any]]:
    """Probes features on every source, number of labels and seed.

    Args:
      features_of: From rows and columns, int (N,), to features (N, F).
      scene: The image the labels lie on.
      labels: Labels by source, as `read_labels` gives them.
      seeds: Seeds of the draws.
      margin_px: As `split` takes it; keep it the same for all features that are compared.

    Returns:
      One row for each source, seed and entry of `PER_CLASS`: `source`, `per_class`, `seed` and what `probe` returns, for few labels as the
      mean of `DRAWS` draws.
    """
    rows = []
    for source, seed in ((source, seed) for source in labels for seed in seeds):
        sides = split(labels[source], scene, seed, margin_px)
        train, test = sides.train, sides.test
        train_X, test_X = features_of(train.rows, train.columns), features_of(test.rows, test.columns)
        blocks = train.groups if source == "polygons" else train.columns // BLOCK_PX
        for per_class in PER_CLASS:
            draws = 1 if per_class is None else DRAWS
            runs = [probe(train_X, train.classes, test_X, test.classes, per_class, seed * DRAWS + k, blocks) for k in range(draws)]
            figures = {name: type(value)(statistics.fmean(run[name] for run in runs)) for name, value in runs[0].items()}
            rows.append({"source": source, "per_class": per_class, "seed": seed, **figures})
    return rows


def aggregate(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, in the order of the rows.

    Args:
      rows: Rows of `evaluate`.

    Returns:
      One row for each source and `per_class`: `seeds` (how many), `train_n` and `test_n` of the first seed, and `accuracy` and `macro_f1`
      with their sample standard deviations `accuracy_sd` and `macro_f1_sd`, None for a single seed.
    """
    together: dict[tuple[str, int | None], list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["source"], row["per_class"]), []).append(row)
    means = []
    for (source, per_class), same in together.items():
        mean = {"source": source, "per_class": per_class, "seeds": len(same), "train_n": same[0]["train_n"], "test_n": same[0]["test_n"]}
        for name in ("accuracy", "macro_f1"):
            values = [row[name] for row in same]
            mean |= {name: statistics.fmean(values), f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None}
        means.append(mean)
    return means


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints, and writes with --out, what the label-free features reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="folder of the scene")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=pathlib.Path, help="JSON file for the figures")
    given = parser.parse_args(arguments)
    return exit_code(lambda: _report(given.data, given.seeds, given.out))


def _report(folder: pathlib.Path, seeds: Sequence[int], out: pathlib.Path | None) -> None:
    scene, labels = read_scene(folder), read_labels(folder)
    dropped = {source: split(labels[source], scene).dropped for source in labels}
    for source, reasons in dropped.items():
        print(f"{source:<9} {len(labels[source])} labels; dropped: {', '.join(f'{n} {reason}' for reason, n in reasons.items() if n)}")
    print(f"\n{'features':<9} {'source':<9} {'a class':>7} {'train':>6} {'test':>6} {'accuracy':>14} {'macro-F1':>14}")
    results = {}
    for name, features_of in baselines(scene).items():
        results[name] = evaluate(features_of, scene, labels, seeds)
        for row in aggregate(results[name]):
            figures = [f"{row[f]:.3f}" + ("" if row[f"{f}_sd"] is None else f" ± {row[f'{f}_sd']:.3f}") for f in ("accuracy", "macro_f1")]
            counts = f"{row['per_class'] or 'all':>7} {row['train_n']:>6} {row['test_n']:>6}"
            print(f"{name:<9} {row['source']:<9} {counts} {figures[0]:>14} {figures[1]:>14}", flush=True)
    if out:
        content = {"bands": scene.bands, "dropped": dropped, "rows": results, "means": {name: aggregate(results[name]) for name in results}}
        out.write_text(json.dumps(content, indent=1) + "\n")


def _folds(classes: np.ndarray, blocks: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) indices; a block is in one fold and each fold has about the same share of each class."""
    folds = StratifiedGroupKFold(min(FOLDS, len(np.unique(blocks))), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(folds.split(classes, classes, blocks))


if __name__ == "__main__":
    sys.exit(main())
