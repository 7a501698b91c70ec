"""Front door of export: a run's folder in, a PyTorch model folder with proven parity out.

    python -m rsfm_jax.export --workdir=runs/first --out=weights
    python -m rsfm_jax.export --workdir=runs/first --out=weights-timm --format=timm --sensor=sentinel2_l2a --pixels=224

The format "rsfm" holds all sensors and any number of members and dates. In the others one sensor, its bands, GSD, size and date are baked
into a plain ViT that timm, transformers, TerraTorch or ONNX Runtime load.
"""

import importlib.util
import pathlib
import sys

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import InputError, exit_code

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_OUT = flags.DEFINE_string("out", None, "model folder to make")
_STEP = flags.DEFINE_integer("step", None, "export the checkpoint of this step; the newest by default")
_FORMAT = flags.DEFINE_string("format", "rsfm", "rsfm, timm, transformers, prithvi (TerraTorch) or onnx")
_SENSOR = flags.DEFINE_string("sensor", None, "sensor that is baked, for all formats but rsfm")
_BANDS = flags.DEFINE_list("bands", [], "its bands, in the order wanted; by default all of the model's one input of that sensor")
_PATCH = flags.DEFINE_integer("patch", None, "patch side, where the model has several for the sensor")
_PIXELS = flags.DEFINE_string("pixels", None, "size of the image, as 224 or 224x160 (height x width); by default as trained")
_GSD = flags.DEFINE_float("gsd_m", None, "metres per pixel; by default as trained")
_ACQUIRED = flags.DEFINE_string("acquired", None, "date of the image, YYYY-MM-DD; by default unknown")
_DECODER = flags.DEFINE_bool("decoder", False, "write the decoder too, for continued pretraining (rsfm, transformers)")
_AVERAGE = flags.DEFINE_integer("average", 1, "how many checkpoints up to --step to average")
_DECAY = flags.DEFINE_float("average_decay", 1.0, "an older checkpoint's share over that of the next: 1 plain mean, less an EMA")
_DATA = flags.DEFINE_string("data", None, "the run's dataset, if it is no longer where it was trained")


_BAKED_ONLY = {"sensor": _SENSOR, "bands": _BANDS, "patch": _PATCH, "pixels": _PIXELS, "gsd_m": _GSD, "acquired": _ACQUIRED}


def _pixels(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise InputError(f"--pixels={text}: must be one number or two, as 224 or 224x160 (height x width)")
    return int(sides[0]), int(sides[-1])


def _run() -> int:
    if cli.show_help(sys.argv, __doc__ or ""):
        return 0
    cli.parse(sys.argv)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what reading only implies
    workdir = pathlib.Path(cli.required_flag("workdir", _WORKDIR.value, "runs/first"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "weights/"))
    pixels = _pixels(_PIXELS.value)
    if _GSD.value is not None and _GSD.value <= 0:
        raise InputError(f"--gsd_m={_GSD.value:g}: must be a positive number of metres")
    if _FORMAT.value == "rsfm" and (given := [name for name, flag in _BAKED_ONLY.items() if flag.value]):
        raise InputError(f"--{given[0]}: --format=rsfm holds every sensor, size and date; leave it out, or choose another format")
    for package in ("torch", "safetensors", "pystac"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"export needs the package {package}: pip install 'rsfm_jax[torch]' (for the CPU wheel on Linux: --extra-index-url https://download.pytorch.org/whl/cpu)"
            )
    from rsfm_jax.export.baking import Choice  # these import jax and torch
    from rsfm_jax.export.folder import Order, export_run
    from rsfm_jax.export.formats import find_format
    from rsfm_jax.export.parity import ParityError

    try:
        choice = None
        if _FORMAT.value != "rsfm":
            find_format(_FORMAT.value, _DECODER.value)
            sensor = cli.required_flag("sensor", _SENSOR.value, "sentinel2_l2a")
            choice = Choice(sensor, tuple(_BANDS.value), _PATCH.value, pixels, _GSD.value, _ACQUIRED.value)
        order = Order(_FORMAT.value, choice, _DECODER.value)
        result = export_run(workdir, out, _STEP.value, _DATA.value, order, _AVERAGE.value, _DECAY.value)
    except ParityError as error:
        print(f"error: {error}; nothing was written", file=sys.stderr)
        return 1
    print(f"{'input':<40} {'chips':>6} {'tokens, max abs':>16} {'layers, max abs':>16}")
    for row in result["parity"]:
        print(f"{row['input']:<40} {row['chips']:>6} {row['tokens_max_abs']:>16.2e} {row['layers_max_abs']:>16.2e}")
    print(f"wrote {out}: step {result['step']}, {result['parameters'] / 1e6:.1f} M parameters")
    print(f"features equal JAX's within {result['parity_max_abs']:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(_run))
