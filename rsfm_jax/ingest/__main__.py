"""Front door of ingest: a folder of scenes in, a dataset folder out."""

import pathlib
import sys
from typing import Any

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import exit_code
from rsfm_jax.ingest.pipeline import run_ingest

_SCENES = flags.DEFINE_string("scenes", None, "folder with a scenes.yaml and the files it names")
_OUT = flags.DEFINE_string("out", None, "dataset folder to make")
_CONFIG = cli.define_config()


def print_summary(summary: dict[str, Any], out: pathlib.Path) -> None:
    """Prints what was kept and what was rejected, by layout."""
    print(f"{'layout':<32} {'train':>7} {'val':>6} {'rejected':>9}")
    for name, counts in summary["sets"].items():
        rejected = summary["rejected"][name]
        print(f"{name:<32} {counts.get('train', 0):>7} {counts.get('val', 0):>6} {sum(rejected.values()):>9}")
        if not counts and not rejected:
            print(f"{'':<32} no set: its members share no ground large enough for a chip")
        for reason, count in rejected.items():
            print(f"{'':<32} rejected: {count} x {reason}")
    for sensor, bands in summary["unused_bands"].items():
        print(f"bands that no layout reads: {sensor} {', '.join(bands)}")
    print(f"wrote {out} (every scene and set with its reason: {out / 'manifest.jsonl'})")


def _run() -> None:
    if cli.show_help(sys.argv, __doc__ or ""):
        return
    cli.parse(sys.argv)
    logging.set_verbosity(logging.WARNING)
    scenes = pathlib.Path(cli.required_flag("scenes", _SCENES.value, "scenes/"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "data/run1"))
    config = cli.loaded_config(_CONFIG, required=False)
    print_summary(run_ingest(scenes, out, config.ingest), out)


if __name__ == "__main__":
    sys.exit(exit_code(_run))
