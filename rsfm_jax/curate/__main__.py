"""Front door of curate: a dataset folder in, the image sets worth keeping out."""

import pathlib
import shlex
import sys
from typing import Any

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.curate.pipeline import Order, run_curate
from rsfm_jax.errors import InputError, exit_code

_DATA = flags.DEFINE_string("data", None, "dataset folder that rsfm_jax.ingest wrote")
_TARGET = flags.DEFINE_integer("target", None, "image sets to keep of the split 'train', all layouts together")
_OUT = flags.DEFINE_string("out", None, "curated folder to make")
_ADD_TO = flags.DEFINE_string("add_to", None, "curated folder whose clusters the dataset is added to; --target is of both")
_RANDOM = flags.DEFINE_boolean("random", False, "keep a random sample of as many sets instead, without clusters, for comparison")
_WORKERS = flags.DEFINE_integer("workers", 1, "processes that work out descriptors; above 1 with Apache Beam on this machine")
_BEAM = flags.DEFINE_string("beam", "", "options of another Apache Beam runner, as '--runner=FlinkRunner ...'; its workers must see --out")
_CONFIG = cli.define_config()


def print_summary(summary: dict[str, Any], out: pathlib.Path) -> None:
    """Prints what was kept and what was rejected, by layout."""
    print(f"{'layout':<32} {'sets':>8} {'rejected':>9} {'clusters':>9} {'kept':>8}")
    for name, fields in summary["layouts"].items():
        clusters = fields["clusters"]["count"] if "clusters" in fields else 0
        print(f"{name:<32} {fields['sets']:>8} {sum(fields['rejected'].values()):>9} {clusters:>9} {fields['kept']:>8}")
        for reason, count in fields["rejected"].items():
            print(f"{'':<32} rejected: {count} x {reason}")
        if "coverage" in fields:
            kept, random = (fields["coverage"][of]["mean_distance"] for of in ("kept", "random"))
            print(f"{'':<32} mean distance to the nearest kept set {kept:.4g}, with as many at random {random:.4g}")
    print(f"wrote {out} (every image set with its reason: {out / 'manifest.parquet'}; pictures: {out / 'report.html'})")


def _run() -> None:
    if cli.show_help(sys.argv, __doc__ or ""):
        return
    cli.parse(sys.argv)
    logging.set_verbosity(logging.WARNING)
    data = pathlib.Path(cli.required_flag("data", _DATA.value, "data/run1"))
    target = cli.required_flag("target", _TARGET.value, "100000")
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "data/run1-curated"))
    config = cli.loaded_config(_CONFIG, required=False)
    try:
        beam = shlex.split(_BEAM.value)
    except ValueError as error:
        raise InputError(f"--beam={_BEAM.value}: cannot be read ({error}); write options as on a command line, in quotes") from None
    add_to = pathlib.Path(_ADD_TO.value) if _ADD_TO.value else None
    print_summary(run_curate(Order(data, target, out, _WORKERS.value, beam, add_to, _RANDOM.value), config.curate), out)


if __name__ == "__main__":
    sys.exit(exit_code(_run))
