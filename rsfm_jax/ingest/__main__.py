"""Front door of ingest: a folder of scenes in, a dataset folder out."""

import pathlib
import sys
from typing import Any

from absl import flags, logging

from rsfm_jax import cli
from rsfm_jax.errors import exit_code
from rsfm_jax.ingest.pipeline import How, run_ingest
from rsfm_jax.ingest.tasks import beam_arguments

_SCENES = flags.DEFINE_string("scenes", None, "folder with a scenes.yaml and the files it names")
_OUT = flags.DEFINE_string("out", None, "dataset folder to make")
_STRICT = flags.DEFINE_bool("strict", False, "stop at the first scene that cannot be read; else it is left out and named")
_WORKERS = flags.DEFINE_integer("workers", 1, "processes of this machine; for other runners give Beam's options after --")
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
    for name, error in summary["broken_scenes"].items():
        print(f"left out: scene {name!r}: {error}")
    for name, error in summary["partly_unreadable_scenes"].items():
        print(f"partly left out: scene {name!r}: {error}")
    for sensor, bands in summary["unused_bands"].items():
        print(f"bands that no layout reads: {sensor} {', '.join(bands)}")
    print(f"wrote {out} (every scene and set with its reason: {out / 'manifest.jsonl'})")


def _run() -> None:
    if cli.show_help(sys.argv, __doc__ or ""):
        return
    words, beam_words = cli.split_words(sys.argv)
    cli.parse(words)
    logging.set_verbosity(logging.WARNING)
    scenes = pathlib.Path(cli.required_flag("scenes", _SCENES.value, "scenes/"))
    out = pathlib.Path(cli.required_flag("out", _OUT.value, "data/run1"))
    config = cli.loaded_config(_CONFIG, required=False)
    how = How(strict=_STRICT.value, beam_args=beam_arguments(_WORKERS.value, beam_words))
    print_summary(run_ingest(scenes, out, config.ingest, how), out)


if __name__ == "__main__":
    sys.exit(exit_code(_run))
