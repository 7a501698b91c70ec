"""Loss curves of every experiment at small scale, on the example scenes: the figures in the docstrings of configs/.

    python benchmarks/loss_curves.py --work=runs/loss_curves

Each experiment is trained as a `python -m rsfm_jax.train` of its own with `SMALL`, on layouts it is meant for; what is done is kept under
--work. Prints the mean loss over the steps around each of `STEPS`, and what predicting every patch's mean would score.
"""

import argparse
import importlib
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from configs import demo  # noqa: E402
from rsfm_jax.config import Config, IngestConfig  # noqa: E402
from rsfm_jax.errors import InputError, exit_code  # noqa: E402
from rsfm_jax.layouts import Layout, Slot  # noqa: E402
from rsfm_jax.models.spec import token_layout  # noqa: E402

SMALL = {
    "model": {"width": 128, "depth": 4, "heads": 4, "decoder_width": 64, "decoder_depth": 3, "decoder_heads": 4}
    | {"compute_dtype": "float32", "remat": "none", "unroll": 0},
    "data": {"global_batch_size": 32, "layout_balance": 0.5},
    "optim": {"base_lr": 8e-3, "warmup_steps": 40},
    "train": {"steps": 400, "log_every": 50, "checkpoint_every": 400, "picture_every": 0},
}
STEPS = (1, 50, 100, 200, 400)
_AROUND = 20  # steps before each of STEPS, itself included, whose mean is printed
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
        _run("rsfm_jax.ingest", "--scenes=examples/scenes", f"--out={out}", f"--config={config}")
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
    _run(
        "rsfm_jax.train",
        f"--config=configs/{experiment.replace(':', '.py:')}",
        f"--workdir={workdir}",
        f"--config.data.path={data}",
        *small,
    )
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def trivial_loss(experiment: str) -> float:
    """What predicting every patch's mean scores: (P - 1) / P for P values of a patch, the mean over token slots and layouts."""
    name, variant = experiment.split(":")
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    layouts = [token_layout(layout, config.tokenizer).layout for layout in LAYOUTS[EXPERIMENTS[experiment]]]
    means = [statistics.fmean(1 - 1 / (slot.patch**2 * len(slot.bands)) for slot in layout.slots) for layout in layouts]
    return statistics.fmean(means)


def _run(module: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise InputError(f"python -m {module} {' '.join(words)}: exit code {done.returncode}")


def run(work: pathlib.Path) -> None:
    """Trains every experiment and prints the table."""
    print(f"{'experiment':20}{'layout':14}{'trivial':>8}" + "".join(f"{f'step {step}':>10}" for step in STEPS), flush=True)
    for experiment, layout in EXPERIMENTS.items():
        losses = train(experiment, work)
        means = [statistics.fmean(losses[max(step - _AROUND, 0) : step]) for step in STEPS]
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
