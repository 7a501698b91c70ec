"""Curation's clustering: is it affinity propagation, does it find rare classes, what does a million points take; and what it covers.

    python benchmarks/curation.py --part=a,b,c
    python benchmarks/curation.py --part=d --data=FOLDER

a: 4,000 points in one block against scikit-learn's `AffinityPropagation` with its default preference, the median: the same exemplars? And
the hierarchy with as many exemplars. Net similarity is below 0, so its ratio is scikit-learn's over ours: 1 is as good, less is worse, and
0.97 means that ours is 3 % further below 0. Distortion is the mean squared distance to the exemplar, ours over theirs. Net similarity is
at scikit-learn's preference.

b: a mixture of 400 classes with heavy tails, 10 of them in each of 40 regions, 400 exemplars wanted: how many classes have one, with blocks
of points of a region, with blocks of random points, and in a random sample of as many points.

c: seconds of the clustering (programs compiled on the way) and peak memory of the whole process, each size in a process of its own, on as
many cores as the process may use; the load average before and after is that of the whole machine. The exponent is the slope of log time
over log N.

d: on chips, the dataset of benchmarks/ablation.py, whose FOLDER it takes, curated to the parts of --shares with several seeds: distance of
all sets to the nearest kept one, mean and 95th percentile, and clusters with a kept set, beside random samples of as many sets of each
layout. Figures are those of curation.json, means over the seeds; the random ones have five samples a seed, sd over samples. The distance is
the one that clusters are found by, and that all clusters are covered follows from the quotas: d says how much, not whether.

The points of a to c are draws from the same kind of mixture; --spread is the standard deviation within a class where centres have 1, and
part a is done with 0.7 as well, where classes overlap. Class sizes follow a power law. The last line is JSON.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.front_doors import ROOT
from benchmarks.pages import markdown_table
from rsfm_jax.config import CurateConfig
from rsfm_jax.curate.affinity import propagate
from rsfm_jax.curate.assign import nearest
from rsfm_jax.curate.hierarchy import Clustering, cluster
from rsfm_jax.curate.pipeline import Order, run_curate
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.errors import InputError, exit_code

DIM = 32
POWER = 1.3  # of the class sizes: the k-th largest is in proportion to k^-1.3
LEAST = 4  # points of a class
REGION = 10  # classes
OVERLAPPING = 0.7  # spread at which classes do


def mixture(points: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws points of Gaussian classes.

    Args:
      points: How many.
      classes: How many.
      spread: Standard deviation within a class; that of the centres is 1.
      seed: Of the draw.

    Returns:
      float32 (N, 32) points in random order, int64 (N,) classes and int64 (N,) regions.
    """
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) ** -POWER
    rest = rng.choice(classes, size=points - LEAST * classes, p=share / share.sum())
    kind = rng.permutation(classes)[np.concatenate([np.repeat(np.arange(classes), LEAST), rest])]
    kind = rng.permutation(kind)
    centres = rng.standard_normal((classes, DIM), dtype=np.float32)
    x = centres[kind]
    x += np.float32(spread) * rng.standard_normal((points, DIM), dtype=np.float32)
    return x, kind, kind // REGION


def against_sklearn(points: int, classes: int, spread: float) -> dict[str, Any]:
    """Part a."""
    from sklearn.cluster import AffinityPropagation

    x, _, region = mixture(points, classes, spread)
    begin = time.perf_counter()
    peer = AffinityPropagation(random_state=0, damping=0.7, max_iter=500).fit(x)
    peer_s = time.perf_counter() - begin
    exemplars = np.asarray(peer.cluster_centers_indices_)
    affinity: np.ndarray = np.asarray(peer.affinity_matrix_)
    similarity, preference = affinity.astype(np.float32), float(np.median(affinity))
    np.fill_diagonal(similarity, preference)
    begin = time.perf_counter()
    found = propagate(similarity[None], np.ones((1, points), bool), 0.7, 500)
    flat = np.unique(np.asarray(found.exemplar_of))
    flat_s = time.perf_counter() - begin
    begin = time.perf_counter()
    deep = cluster(x, region, len(exemplars))
    deep_s = time.perf_counter() - begin
    rows = [_row(x, name, rows, preference, s) for name, rows, s in (("scikit-learn", exemplars, peer_s), ("one block", flat, flat_s))]
    rows.append(_row(x, f"{deep.levels} levels", deep.exemplars, preference, deep_s))
    for row in rows:
        row["net_ratio"] = rows[0]["net_similarity"] / row["net_similarity"]
        row["distortion_ratio"] = row["distortion"] / rows[0]["distortion"]
        row["same_exemplars"] = len(np.intersect1d(row.pop("rows"), exemplars))
    _print(rows)
    return {"points": points, "spread": spread, "preference": preference, "same": bool(np.array_equal(flat, exemplars)), "rows": rows}


def _row(x: np.ndarray, name: str, rows: np.ndarray, preference: float, seconds: float) -> dict[str, Any]:
    _, squared = nearest(x, x[rows])
    loss = float(squared.sum(dtype=np.float64))
    net = len(rows) * preference - loss
    return {"who": name, "exemplars": len(rows), "net_similarity": net, "distortion": loss / len(x), "seconds": seconds, "rows": rows}


def coverage(points: int, classes: int, spread: float) -> dict[str, Any]:
    """Part b."""
    x, kind, region = mixture(points, classes, spread)
    rows = []
    for name, order in (("blocks by region", region), ("random blocks", np.arange(points))):
        begin = time.perf_counter()
        found = cluster(x, order, classes)
        rows.append(_covered(name, kind, found.exemplars) | _cost(found, time.perf_counter() - begin))
    sample = np.random.default_rng(1).choice(points, rows[0]["exemplars"], replace=False)
    _, squared = nearest(x, x[sample])
    rows.append(_covered("random sample", kind, sample) | {"distortion": float(squared.mean()), "seconds": 0.0})
    _print(rows)
    return {"points": points, "classes": classes, "spread": spread, "smallest_class": int(np.bincount(kind).min()), "rows": rows}


def _covered(name: str, kind: np.ndarray, exemplars: np.ndarray) -> dict[str, Any]:
    return {"who": name, "exemplars": len(exemplars), "classes": len(np.unique(kind[exemplars]))}


def _cost(found: Clustering, seconds: float) -> dict[str, Any]:
    words = ("distortion", "levels", "blocks", "unconverged")
    return {word: getattr(found, word) for word in words} | {"seconds": seconds}


def one_size(points: int, classes: int, spread: float) -> dict[str, Any]:
    """One row of part c, in this process."""
    x, kind, region = mixture(points, classes, spread)
    before, begin, cpu = os.getloadavg()[0], time.perf_counter(), time.process_time()
    found = cluster(x, region, classes)
    seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    load = {"load_before": before, "load_after": os.getloadavg()[0]}
    named = {"points": points, "cpu_s": cpu_s, "peak_gib": peak} | load
    return _covered("", kind, found.exemplars) | named | _cost(found, seconds)


def growth(sizes: list[int], classes: int, spread: float) -> dict[str, Any]:
    """Part c."""
    rows = []
    for size in sizes:
        words = [f"--one={size}", f"--classes={classes}", f"--spread={spread}"]
        done = subprocess.run([sys.executable, __file__, *words], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"benchmarks/curation.py {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{size:,} points: {rows[-1]['seconds']:.1f} s, {rows[-1]['peak_gib']:.2f} GiB", flush=True)
    _print(rows)
    logs = {name: np.log([row[name] for row in rows]) for name in ("points", "seconds", "cpu_s")}
    slope = {name: float(np.polyfit(logs["points"], logs[name], 1)[0]) if len(rows) > 1 else None for name in ("seconds", "cpu_s")}
    return {"cores": len(os.sched_getaffinity(0)), "exponent": slope["seconds"], "cpu_exponent": slope["cpu_s"], "rows": rows}


def on_chips(dataset: pathlib.Path, shares: Sequence[float], seeds: int) -> dict[str, Any]:
    """Part d, of a dataset folder."""
    total = sum(of["train"] for of in open_dataset(str(dataset)).sets.values())
    rows = []
    for target in (round(share * total) for share in shares):
        layouts: dict[str, list[dict[str, Any]]] = {}
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                summary = run_curate(Order(dataset, target, pathlib.Path(folder) / "curated"), CurateConfig(seed=seed))
            for name, of in summary["layouts"].items():
                layouts.setdefault(name, []).append(of)
        rows += [_beside_random(name, runs) for name, runs in layouts.items()]
    _print(rows)
    return {"sets": total, "seeds": seeds, "rows": rows}


def _beside_random(layout: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of part d: one layout at one target, over the seeds."""
    row: dict[str, Any] = {"layout": layout, "sets": runs[0]["sets"], "kept": runs[0]["kept"]}
    coverage = [run["coverage"] for run in runs]
    row["clusters"] = float(np.mean([of["clusters"] for of in coverage]))
    for name in ("mean_distance", "p95_distance", "clusters_covered"):
        kept, random, sd = ([of[who][name] for of in coverage] for who in ("kept", "random", "random_sd"))
        row |= {name: float(np.mean(kept)), f"random {name}": float(np.mean(random))}
        row[f"random {name} sd"] = float(np.sqrt(np.mean(np.square(sd))))
    row["mean_ratio"] = row["mean_distance"] / row["random mean_distance"]
    row["p95_ratio"] = row["p95_distance"] / row["random p95_distance"]
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    cells = [[f"{row.get(name, ''):.5g}" if isinstance(row.get(name), float) else row.get(name, "") for name in names] for row in rows]
    print(markdown_table(names, cells), flush=True)


def run(given: argparse.Namespace) -> None:
    """Runs the parts and prints."""
    parts = given.part.split(",")
    if unknown := sorted({*parts} - {"a", "b", "c", "d"}):
        raise InputError(f"--part={given.part}: {', '.join(unknown)} is none of a, b, c, d")
    if "d" in parts and given.data is None:
        raise InputError("--part=d: reads real imagery; give the folder that benchmarks/ablation.py takes with --data")
    least = 2 * LEAST * given.classes
    if min(given.flat_points, given.points, *map(int, given.sizes.split(","))) < least:
        raise InputError(f"--flat_points, --points, --sizes: at least {least:,} points for {given.classes} classes")
    results = {}
    if "a" in parts:
        results["a"] = [against_sklearn(given.flat_points, min(100, given.classes), spread) for spread in (given.spread, OVERLAPPING)]
    if "b" in parts:
        results["b"] = coverage(given.points, given.classes, given.spread)
    if "c" in parts:
        results["c"] = growth([int(size) for size in given.sizes.split(",")], given.classes, given.spread)
    if "d" in parts:
        from benchmarks.ablation import prepare_dataset  # imports training, which the other parts and their memory do without

        dataset = prepare_dataset(given.data, given.work.resolve())
        results["d"] = on_chips(dataset, [float(share) for share in given.shares.split(",")], given.seeds)
    print(json.dumps(results))


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="a,b,c", help="which parts")
    parser.add_argument("--flat_points", type=int, default=4000, help="points of part a")
    parser.add_argument("--points", type=int, default=40_000, help="points of part b")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="points of part c")
    parser.add_argument("--classes", type=int, default=400, help="of the mixture, and exemplars wanted; part a has 100 at most")
    parser.add_argument("--spread", type=float, default=0.2, help="standard deviation within a class")
    parser.add_argument("--data", type=pathlib.Path, help="folder of part d's labelled scene's folder")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "curation", help="part d's dataset is kept here")
    parser.add_argument("--shares", default="0.5,0.25,0.0625", help="of the sets, kept in part d")
    parser.add_argument("--seeds", type=int, default=3, help="curations of each share in part d")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one_size(given.one, given.classes, given.spread)))
        return 0
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
