"""Does curation help? Pretrains on all sets of a dataset, on a curated part and on a random part of the same size, and compares.

    python benchmarks/curation_training.py --data=FOLDER --work=runs/curation --seeds=3

Dataset, model and probes are those of benchmarks/ablation.py, with its config `anchor_aware` and fewer steps; FOLDER is the same. Both
parts are made by `python -m rsfm_jax.curate`, the random one with --random: as many sets of each layout, after the same rejections. Steps,
batches and config are equal; a seed is that of the curation's or the sample's draw, of parameters and masks, and of the label draws. Beside
the probes: the error of the masked reconstruction of every set of the dataset, kept or not, with the same masks for all runs.

One run at a time; what is done is kept under --work, so the same command goes on where it was stopped. Writes the figures between the
markers ``experiment`` of --page.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
import statistics
import sys
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.ablation import SCENE_FOLDER, prepare_dataset, pretrain, write_probes
from benchmarks.ablation_page import SOURCES, probe_table
from benchmarks.encoder_features import encoder_features, initial_features
from benchmarks.front_doors import ROOT, fingerprint, run_module
from benchmarks.land_cover import Labels, Scene, read_labels, read_scene
from benchmarks.pages import markdown_table, replace_between
from benchmarks.probe import PER_CLASS
from configs.ablation import get_config
from rsfm_jax.config import config_from_dict
from rsfm_jax.data.dataset import open_dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.errors import exit_code
from rsfm_jax.export.checkpoint import read_checkpoint
from rsfm_jax.models.build import abstract_model
from rsfm_jax.train.step import loss_fn

VARIANT, LAYER = "anchor_aware", "last"
UNTRAINED, ALL, RANDOM, CURATED = "untrained", "all", "random", "curated"
KINDS = (UNTRAINED, ALL, RANDOM, CURATED)
MASK_SEED = 1_000_003  # of the masks that reconstructions are compared with; no run is trained with it
STEPS = 250


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all runs share.

    Attributes:
      scene: The labelled scene.
      labels: Its labels by source.
      dataset: What is trained on.
      work: Where curations, runs and figures are kept.
      target: Sets of each part.
      steps: Optimiser steps of each run.
      overrides: Of the config, as on a command line.
    """

    scene: Scene
    labels: Mapping[str, Labels]
    dataset: pathlib.Path
    work: pathlib.Path
    target: int
    steps: int
    overrides: tuple[str, ...] = ()

    def key(self, kind: str, seed: int, *made_by: Any) -> str:
        """Names what is kept, by all that made it."""
        size = self.target if kind in (RANDOM, CURATED) else ALL
        return f"{kind}-{size}-{seed}-{fingerprint([open_dataset(str(self.dataset)).digest, *made_by])}"

    def kept(self, kind: str, seed: int) -> pathlib.Path:
        """The curated folder of a part, made where it is not there yet."""
        out = self.work / "kept" / self.key(kind, seed, fingerprint(get_config(VARIANT).curate))
        if not out.exists():
            words = (f"--data={self.dataset}", f"--target={self.target}", f"--out={out}", "--config=configs/ablation.py")
            out.parent.mkdir(parents=True, exist_ok=True)
            run_module("rsfm_jax.curate", *words, f"--config.curate.seed={seed}", *(["--random"] if kind == RANDOM else []))
        return out

    def do(self, kind: str, seed: int) -> dict[str, Any]:
        """Trains and measures, unless that was done before.

        Returns:
          ``probes``, rows of `benchmarks.probe.evaluate`, and ``errors``, those of `errors_of_all`; none of the untrained.
        """
        key = self.key(kind, seed, fingerprint(get_config(VARIANT)), self.steps, self.overrides)
        workdir, probes, errors = self.work / "runs" / key, self.work / "probes" / f"{key}.json", self.work / "errors" / f"{key}.json"
        if not probes.exists():
            if kind == UNTRAINED:
                features_of = initial_features(self.dataset, self.scene, seed, LAYER)
            else:
                part = [] if kind == ALL else [f"--config.data.curation={self.kept(kind, seed)}"]
                pretrain(VARIANT, seed, self.dataset, workdir, self.steps, *self.overrides, *part)
                features_of = encoder_features(workdir, self.steps, self.scene, LAYER)
            write_probes(probes, {kind: features_of}, self.scene, self.labels, seed)
        if kind != UNTRAINED and not errors.exists():
            found = errors_of_all(workdir, self.steps, self.dataset)
            errors.parent.mkdir(parents=True, exist_ok=True)
            errors.write_text(json.dumps(found) + "\n")
        found = {} if kind == UNTRAINED else json.loads(errors.read_text())
        return {"probes": json.loads(probes.read_text())[kind], "errors": found}


def errors_of_all(workdir: pathlib.Path, step: int, dataset: pathlib.Path) -> dict[str, list[float]]:
    """Errors of the masked reconstruction of every training set of a dataset, with masks that are the same for every run.

    Args:
      workdir: The run's folder.
      step: Of the checkpoint.
      dataset: The dataset folder.

    Returns:
      For each layout, each set's mean over its members of the mean error over hidden patches, in the order of the records.
    """
    trained, opened = read_checkpoint(workdir, step), open_dataset(str(dataset))
    config, model = config_from_dict(trained.run["config"]), abstract_model(trained.spec)
    config.train.seed = MASK_SEED
    size, found = config.data.global_batch_size, {}
    for layout in opened.layouts:
        source, decoder = opened.source(layout, "train"), Decoder(opened, layout)
        loss = jax.jit(functools.partial(loss_fn, model=model, config=config, layout=layout))
        errors = []
        for start in range(0, len(source), size):
            rows = np.minimum(np.arange(start, start + size), len(source) - 1)  # the last batch is filled with its last set
            batch = {"global_index": rows.astype(np.uint32)} | decoder.batch((source[int(row)] for row in rows), size)
            errors += np.asarray(loss(trained.params, batch=batch)[1]["example_errors"]).tolist()
        found[layout.name] = errors[: len(source)]
    return found


def section(experiment: Experiment, counts: dict[str, int], done: dict[str, list[dict[str, Any]]]) -> str:
    """The section of the page.

    Args:
      experiment: What was done.
      counts: Sets of each layout of the dataset.
      done: What `Experiment.do` returned, by kind, seed by seed.
    """
    seeds = len(done[CURATED])
    sizes = dict.fromkeys(KINDS, f"{experiment.target:,} sets") | {UNTRAINED: "no set", ALL: f"{sum(counts.values()):,} sets"}
    names = {kind: f"{kind}, {size}" for kind, size in sizes.items()}
    probes = {name: [row for found in done[kind] for row in found["probes"]] for kind, name in names.items()}
    lines = [
        f"Made by `python benchmarks/curation_training.py --seeds={seeds} --steps={experiment.steps} --target={experiment.target}`. "
        + (f"Mean ± standard deviation over {seeds} seeds." if seeds > 1 else "One seed, so nothing says how far chance goes."),
        "",
        "Error of the masked reconstruction over all sets of the dataset, of each layout: mean, and 95th percentile over the sets.",
        "",
        _error_table({names[kind]: done[kind] for kind in KINDS if kind != UNTRAINED}, counts),
        "",
        "Curated less random, seed by seed: what curation brings to accuracy and macro-F1 (above 0: curation is better).",
        "",
        _difference_table(done[CURATED], done[RANDOM], list(experiment.labels)),
    ]
    for source in experiment.labels:
        lines += ["", f"{SOURCES[source]}:", "", *probe_table(probes, source)]
    return "\n".join(lines)


def _error_table(done: dict[str, list[dict[str, Any]]], counts: dict[str, int]) -> str:
    head = ["trained on", *(f"{name} ({count:,}): {what}" for name, count in counts.items() for what in ("mean", "95 %"))]
    rows = []
    for name, runs in done.items():
        errors = [[run["errors"][layout] for run in runs] for layout in counts]
        cells = [[f(values) for values in of] for of in errors for f in (np.mean, functools.partial(np.percentile, q=95))]
        rows.append([name, *map(_mean_sd, cells)])
    return markdown_table(head, rows)


def _difference_table(curated: list[dict[str, Any]], random: list[dict[str, Any]], sources: list[str]) -> str:
    amounts = ["all labels" if n is None else f"{n} a class" for n in PER_CLASS]
    head = ["labels", *(f"{amount}: {metric}" for amount in amounts for metric in ("accuracy", "macro-F1"))]
    columns = [(n, metric) for n in PER_CLASS for metric in ("accuracy", "macro_f1")]
    rows = []
    for source in sources:
        differences = [_figures(curated, source, *column) - _figures(random, source, *column) for column in columns]
        rows.append([source, *(_mean_sd(values.tolist(), "+") for values in differences)])
    return markdown_table(head, rows)


def _figures(runs: list[dict[str, Any]], source: str, per_class: int | None, metric: str) -> np.ndarray:
    """A metric of the probes, seed by seed."""
    return np.array([row[metric] for run in runs for row in run["probes"] if (row["source"], row["per_class"]) == (source, per_class)])


def _mean_sd(values: Sequence[float], sign: str = "") -> str:
    return f"{statistics.fmean(values):{sign}.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def run(given: argparse.Namespace) -> None:
    """Makes the dataset, compares, writes and prints the section."""
    work = given.work.resolve()
    dataset = prepare_dataset(given.data, work)
    counts = {name: of["train"] for name, of in open_dataset(str(dataset)).sets.items()}
    scene, labels = read_scene(given.data / SCENE_FOLDER), read_labels(given.data / SCENE_FOLDER)
    experiment = Experiment(scene, labels, dataset, work, given.target or round(sum(counts.values()) / 4), given.steps)
    done = {kind: [] for kind in KINDS}
    for kinds in ((RANDOM, CURATED), (ALL, UNTRAINED)):  # pairs first, for those who stop it early
        for seed in range(given.seeds):
            for kind in kinds:
                done[kind].append(experiment.do(kind, seed))
    text = section(experiment, counts, done)
    print(text)
    replace_between(given.page, "experiment", text)
    print(f"wrote {given.page}")


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder of the labelled scene's folder")
    parser.add_argument(
        "--work", type=pathlib.Path, default=ROOT / "runs" / "curation", help="dataset, curations, runs and figures are kept here"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--target", type=int, help="sets of the curated part and of the random one; a quarter of all unless given")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps of each run")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs" / "curation.md", help="the page with the markers")
    given = parser.parse_args()
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
