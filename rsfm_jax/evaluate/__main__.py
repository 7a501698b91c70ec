"""Front door of evaluation: exported models and a task in, a table with baselines beside the models out; or embeddings of whole scenes.

    python -m rsfm_jax.evaluate --model=weights --task=configs/tasks/north_carolina_points.yaml --data_root=DATA --out=results/points
    python -m rsfm_jax.evaluate --model=weights --embed=patches --scenes=scenes/ --out=embeddings
    python -m rsfm_jax.evaluate --model=weights --embed=map --task=task.yaml --data_root=DATA --scenes=scenes/ --out=maps
    python -m rsfm_jax.evaluate --task=configs/tasks/north_carolina_points.yaml --data_root=DATA --probe_set=labelled.npz

With --task it writes results.json, rows.csv and report.html; features are kept in OUT/features, so that other probes of the same chips
start at once. With --embed it writes a file for each scene, in bounded memory; the same command goes on with a run that was stopped.
With --probe_set it writes the task's samples as the labelled set that training is probed with, --config.probe.path.
"""

import importlib.util
import pathlib
import sys
from typing import Any

from absl import flags

from rsfm_jax import cli
from rsfm_jax.errors import InputError, exit_code

_MODEL = flags.DEFINE_multi_string("model", [], "exported folder of format rsfm; several with commas, or the flag again")
_TASK = flags.DEFINE_string("task", None, "task file, as configs/tasks/north_carolina_points.yaml")
_OUT = flags.DEFINE_string("out", None, "folder of the results; may hold those of a run before, which are replaced")
_DATA = flags.DEFINE_string("data_root", None, "folder that paths in the task are relative to; by default the task file's")
_DEVICE = flags.DEFINE_string("device", "cpu", "where PyTorch computes: cpu, cuda, cuda:1")
_EMBED = flags.DEFINE_string(
    "embed", None, "patches (a GeoTIFF, one cell a patch), chips (a GeoParquet table), map (of classes, by --task)"
)
_SCENES = flags.DEFINE_string("scenes", None, "with --embed: folder with scenes.yaml")
_SCENE = flags.DEFINE_list("scene", [], "with --embed: ids of scenes; by default all that the model can see")
_BANDS = flags.DEFINE_list("bands", [], "with --embed: bands given to the model, where it has several inputs of a sensor")
_WINDOW = flags.DEFINE_integer(
    "window_px", None, "with --embed: side of windows or chips; by default that of the chips in training, or for maps in the task"
)
_OVERLAP = flags.DEFINE_integer("overlap_px", None, "with --embed=patches or map: what neighbouring windows share; by default a quarter")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "with --embed=patches: type of the values")
_PROBE_SET = flags.DEFINE_string("probe_set", None, "file to write, for --config.probe.path of training, in place of --model and --out")
_BATCH = flags.DEFINE_integer("batch_size", 64, "chips that the encoder sees at a time")


def _need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"evaluation needs the package {package}: pip install 'rsfm_jax[evaluate]' (for PyTorch's CPU wheel on Linux: "
                "--extra-index-url https://download.pytorch.org/whl/cpu)"
            )


def _embed(kind: str) -> int:
    model = pathlib.Path(cli.required_flag("model", ",".join(_MODEL.value), "weights"))
    scenes = pathlib.Path(cli.required_flag("scenes", _SCENES.value, "scenes/"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "embeddings"))
    if kind == "map":
        return _map(model, scenes, out)
    if _TASK.value:
        raise InputError(f"--task and --embed={kind}: give one of them, or --embed=map")
    _need("torch", "pyarrow")
    from rsfm_jax.evaluate.scenes.embed_folder import embed_folder  # imports torch

    options = {"device": _DEVICE.value}
    if kind == "chips":
        options |= {"chip_px": _WINDOW.value}
    else:
        options |= {"window_px": _WINDOW.value, "overlap_px": _OVERLAP.value, "dtype": _DTYPE.value}
    found = embed_folder(model, scenes, out, kind, _SCENE.value, _BANDS.value, print, **options)
    return _print_scenes(out, found)


def _map(model: pathlib.Path, scenes: pathlib.Path, out: pathlib.Path) -> int:
    task = pathlib.Path(cli.required_flag("task", _TASK.value, "configs/tasks/north_carolina_points.yaml"))
    if _BANDS.value:
        raise InputError(f"--bands={','.join(_BANDS.value)}: a map's bands are those of the task's images; leave it out")
    if _BATCH.value < 1:
        raise InputError(f"--batch_size={_BATCH.value}: must be at least 1")
    _need("torch", "sklearn", "geopandas", "pyarrow")
    from rsfm_jax.evaluate.mapping import map_folder  # imports torch

    root = pathlib.Path(_DATA.value) if _DATA.value else task.parent
    sizes = {"window_px": _WINDOW.value, "overlap_px": _OVERLAP.value}
    return _print_scenes(
        out, map_folder(model, task, root, scenes, out, _SCENE.value, **sizes, device=_DEVICE.value, batch=_BATCH.value, say=print)
    )


def _print_scenes(out: pathlib.Path, found: dict[str, Any]) -> int:
    for name, reason in found["left_out"].items():
        print(f"left out: {name}: {reason}")
    print(f"wrote {out}: {len(found['scenes'])} scenes, summary.json")
    return 0


def _probe_set(out: str) -> int:
    task = pathlib.Path(cli.required_flag("task", _TASK.value, "configs/tasks/north_carolina_points.yaml"))
    for name, value in (("model", _MODEL.value), ("embed", _EMBED.value), ("out", _OUT.value)):
        if value:
            raise InputError(f"--{name} and --probe_set: give one of them")
    _need("torch", "sklearn", "geopandas")
    from rsfm_jax.evaluate.samples.probe_set import make_probe_set

    found = make_probe_set(task, pathlib.Path(_DATA.value) if _DATA.value else task.parent, pathlib.Path(out))
    for name, count in found["counts"]["train"].items():
        print(f"{name}: {count} to learn from, {found['counts']['test'][name]} to test")
    chip = " x ".join(map(str, found["chip"]))
    print(f"wrote {out}: chips of {chip} of {found['sensor']}, {found['train_n']} + {found['test_n']}; left out: {found['dropped']}")
    return 0


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    if _PROBE_SET.value is not None:
        return _probe_set(cli.required_flag("probe_set", _PROBE_SET.value, "labelled.npz"))
    if _EMBED.value is not None:
        return _embed(_EMBED.value)
    given = cli.required_flag("model", ",".join(_MODEL.value), "weights")
    models = [pathlib.Path(name) for name in given.split(",") if name]
    task = pathlib.Path(cli.required_flag("task", _TASK.value, "configs/tasks/north_carolina_points.yaml"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "results/points"))
    if _BATCH.value < 1:
        raise InputError(f"--batch_size={_BATCH.value}: must be at least 1")
    _need("torch", "sklearn", "geopandas", "matplotlib")
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
    for row in results["retrieval"]:
        name = ", ".join(str(row[key]) for key in ("features", "layer", "pooling") if row[key] is not None)
        pair = f" ({row['train_group']} to {row['test_group']})" if "train_group" in row else ""
        recalls = ", ".join(f"{key} {row[key]:.4f}" for key in row if key.startswith("recall_at_"))
        print(f"retrieval by {name}{pair}: {recalls}, mean average precision {row['mean_average_precision']:.4f}")
    print(f"wrote {out}: results.json, rows.csv, report.html; left out: {results['samples']['dropped']}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(_run))
