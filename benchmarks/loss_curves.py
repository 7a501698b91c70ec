"""Loss curves of the experiments in configs/ at small scale, on the example scenes: the figures in their docstrings.

    python benchmarks/loss_curves.py --work=runs/loss_curves

Each experiment is trained as a `python -m rsfm_jax.train` of its own with `SMALL`, on layouts it is meant for; what is done is kept under
--work. Prints the mean loss over the 20 steps that end with each of `STEPS` (for the first step its own), and what predicting every
patch's mean would score. configs/demo.py and configs/ablation.py have commands of their own.
"""

import argparse
import importlib
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT, run_module
from configs import ablation, demo
from rsfm_jax.config import Config, IngestConfig
from rsfm_jax.errors import exit_code
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.spec import token_layout

_ABLATION = ablation.get_config()
_SIZES = ("width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "compute_dtype", "remat", "unroll")
SMALL = {
    "model": {name: getattr(_ABLATION.model, name) for name in _SIZES},
    "data": {"global_batch_size": 32, "layout_balance": 0.5},
    "optim": {"base_lr": _ABLATION.optim.base_lr, "warmup_steps": _ABLATION.optim.warmup_steps},
    "train": {"steps": 400, "log_every": 50, "checkpoint_every": 400, "picture_every": 0},
}
STEPS = (1, 50, 100, 200, 400)
_MEAN_OF = 20  # steps
_LAND = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
_DATE = Slot("sentinel2_l3a", _LAND, 10.0, pixels=32, patch=4)
_AT_20M = Slot("sentinel2_l1c", _LAND, 20.0, pixels=32, patch=4, resample="average")
_AT_60M = Slot("sentinel2_l1c", ("B01", *_LAND, "B09"), 60.0, pixels=16, patch=2, resample="average")
LAYOUTS = {
    "demo": demo.layouts(),
    "one_date": (Layout("one_date", (_DATE,), stride_m=80.0, sets_per_place=3),),
    "three_dates": (Layout("three_dates", (_DATE, _DATE, _DATE), stride_m=160.0, sets_per_place=3),),
    "ten_bands": (Layout("ten_bands", (_AT_20M,), stride_m=160.0),),
    "twelve_bands": (Layout("twelve_bands", (_AT_60M,), stride_m=240.0),),
}
EXPERIMENTS = {
    "a2mae:vit_l": "demo",
    "mae:vit_b": "one_date",
    "scalemae:vit_l": "one_date",
    "satmae:temporal": "three_dates",
    "satmae:spectral": "ten_bands",
    "prithvi:vit_l": "three_dates",
    "spectralgpt:vit_b": "twelve_bands",
}


def dataset(name: str, work: pathlib.Path) -> pathlib.Path:
    """Ingests the example scenes into the named layouts, unless that was done before."""
    out = work / "data" / name
    if not out.exists():
        config = work / f"{name}.py"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"from benchmarks.loss_curves import ingest_config\n\n\ndef get_config():\n    return ingest_config({name!r})\n")
        run_module("rsfm_jax.ingest", "--scenes=examples/scenes", f"--out={out}", f"--config={config}", quiet=True)
    return out


def ingest_config(name: str) -> Config:
    """The config that ingests the named layouts."""
    return Config(ingest=IngestConfig(layouts=LAYOUTS[name]))


def train(experiment: str, work: pathlib.Path) -> list[float]:
    """Trains an experiment at small size; a half-finished run goes on where it is.

    Returns:
      The loss of every step.
    """
    data, workdir = dataset(EXPERIMENTS[experiment], work), work / "runs" / experiment.replace(":", "-")
    small = [f"--config.{section}.{name}={value}" for section, values in SMALL.items() for name, value in values.items()]
    which = (f"--config=configs/{experiment.replace(':', '.py:')}", f"--workdir={workdir}", f"--config.data.path={data}")
    run_module("rsfm_jax.train", *which, *small, quiet=True)
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def trivial_loss(experiment: str) -> float:
    """What predicting every patch's mean scores: (P - 1) / P for P values of a patch, the mean over token slots and layouts."""
    name, variant = experiment.split(":")
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    layouts = [token_layout(layout, config.tokenizer).layout for layout in LAYOUTS[EXPERIMENTS[experiment]]]
    means = [statistics.fmean(1 - 1 / (slot.patch**2 * len(slot.bands)) for slot in layout.slots) for layout in layouts]
    return statistics.fmean(means)


def run(work: pathlib.Path) -> None:
    """Trains every experiment and prints the table."""
    print(f"{'experiment':20}{'layout':14}{'trivial':>8}" + "".join(f"{f'step {step}':>10}" for step in STEPS), flush=True)
    for experiment, layout in EXPERIMENTS.items():
        losses = train(experiment, work)
        means = [statistics.fmean(losses[max(step - _MEAN_OF, 0) : step]) for step in STEPS]
        figures = "".join(f"{mean:10.3f}" for mean in means)
        print(f"{experiment:20}{layout:14}{trivial_loss(experiment):8.3f}{figures}", flush=True)


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "loss_curves", help="datasets and runs are kept here")
    given = parser.parse_args()
    return exit_code(lambda: run(given.work.resolve()))


if __name__ == "__main__":
    sys.exit(main())
