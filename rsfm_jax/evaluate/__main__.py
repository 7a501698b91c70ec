"""Front door of evaluation: exported models and a task in, a table with baselines beside the models out.

    python -m rsfm_jax.evaluate --model=weights --task=configs/tasks/north_carolina_points.yaml --data_root=DATA --out=results/points

Writes results.json, rows.csv and report.html. Features are kept in OUT/features, so that other probes of the same chips start at once.
"""

import importlib.util
import pathlib
import sys

from absl import flags

from rsfm_jax import cli
from rsfm_jax.errors import InputError, exit_code

_MODEL = flags.DEFINE_list("model", [], "exported folders of format rsfm, with commas between them")
_TASK = flags.DEFINE_string("task", None, "task file, as configs/tasks/north_carolina_points.yaml")
_OUT = flags.DEFINE_string("out", None, "folder of the results; may hold those of a run before, which are replaced")
_DATA = flags.DEFINE_string("data_root", None, "folder that paths in the task are relative to; by default the task file's")
_DEVICE = flags.DEFINE_string("device", "cpu", "where PyTorch computes: cpu, cuda, cuda:1")
_BATCH = flags.DEFINE_integer("batch_size", 64, "chips that the encoder sees at a time")


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    models = [pathlib.Path(name) for name in cli.required_flag("model", ",".join(_MODEL.value), "weights").split(",")]
    task = pathlib.Path(cli.required_flag("task", _TASK.value, "configs/tasks/north_carolina_points.yaml"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "results/points"))
    if _BATCH.value < 1:
        raise InputError(f"--batch_size={_BATCH.value}: must be at least 1")
    for package in ("torch", "sklearn", "geopandas", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"evaluation needs the package {package}: pip install 'rsfm_jax[evaluate]' (for PyTorch's CPU wheel on Linux: "
                "--extra-index-url https://download.pytorch.org/whl/cpu)"
            )
    from rsfm_jax.evaluate.evaluation import evaluate  # imports torch

    results = evaluate(models, task, out, pathlib.Path(_DATA.value) if _DATA.value else task.parent, _DEVICE.value, _BATCH.value, print)
    first = results["figures"][0]
    print(f"{first:>20}  labels a class  features, probe")
    for row in results["means"]:
        name = ", ".join(str(row[key]) for key in ("features", "layer", "pooling", "probe", "mode") if row[key] is not None)
        pair = f" ({row['train_group']} to {row['test_group']})" if "train_group" in row else ""
        spread = "" if row[f"{first}_sd"] is None else f" ± {row[f'{first}_sd']:.4f}"
        figure = "not defined" if row[first] is None else f"{row[first]:.4f}{spread}"
        print(f"{figure:>20}  {row['per_class'] or 'all':>14}  {name}{pair}")
    print(f"wrote {out}: results.json, rows.csv, report.html; left out: {results['samples']['dropped']}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(_run))
