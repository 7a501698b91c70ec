"""What the land-cover labels allow: trees that are trained and tested in the east itself, on no gap and no shift of classes.

    python benchmarks/label_ceiling.py --data=FOLDER

A probe that is trained in the west and reaches this in the east has nothing left to gain there from better features, as far as trees on
label-free features can tell.
"""

import argparse
import pathlib
import sys

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.land_cover import CLASSES, DATA, baselines, read_labels, read_scene, split
from benchmarks.probe import BLOCK_PX
from rsfm_jax.errors import exit_code

TREES = 300
FOLDS = 4


def report(folder: pathlib.Path, seeds: list[int]) -> None:
    """Prints accuracy and macro-F1 of trees trained west and tested east, and of trees trained and tested east in other blocks."""
    scene, labels = read_scene(folder), read_labels(folder)["map"]
    features = baselines(scene)

    def both(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.concatenate([features[name](rows, columns) for name in ("context", "window")], axis=1)

    for seed in seeds:
        sides = split(labels, scene, seed)
        west, east = (both(side.rows, side.columns) for side in (sides.train, sides.test))
        trees = ExtraTreesClassifier(TREES, min_samples_leaf=2, random_state=seed)
        blocks = sides.test.columns // BLOCK_PX
        inside = cross_val_predict(trees, east, sides.test.classes, groups=blocks, cv=GroupKFold(FOLDS))
        across = trees.fit(west, sides.train.classes).predict(east)
        for name, predicted in (("west to east", across), ("inside the east", inside)):
            macro_f1 = f1_score(sides.test.classes, predicted, average="macro", labels=np.unique(sides.test.classes))
            print(f"seed {seed}  {name:<16} accuracy {accuracy_score(sides.test.classes, predicted):.3f}  macro-F1 {macro_f1:.3f}")
    sides = split(labels, scene, seeds[0])
    for name, side in (("west", sides.train), ("east", sides.test)):
        print(f"{name}: " + ", ".join(f"{label} {np.mean(side.classes == key):.0%}" for key, label in CLASSES.items()))


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="folder of the scene")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    return exit_code(lambda: report(given.data, given.seeds))


if __name__ == "__main__":
    sys.exit(main())
