"""Front door of ingest: a folder of scenes in, a dataset folder out; a page about a dataset; a draft of the description of a folder."""

import pathlib
import sys
from typing import Any

from absl import flags, logging
from etils import epath

from rsfm_jax import cli
from rsfm_jax.data.curation import kept_keys
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.ingest.draft_scenes import write_draft
from rsfm_jax.ingest.pipeline import How, run_ingest
from rsfm_jax.ingest.tasks import beam_arguments

_SCENES = flags.DEFINE_string("scenes", None, "folder with scenes.yaml or products that are known, or a STAC item, collection or catalogue")
_OUT = flags.DEFINE_string(
    "out", None, "dataset folder to make; with --report the HTML file, report.html in the dataset folder unless told"
)
_STRICT = flags.DEFINE_bool("strict", False, "stop at the first scene that cannot be read; else it is left out and named")
_WORKERS = flags.DEFINE_integer("workers", 1, "processes of this machine; for other runners give Beam's options after --")
_CURATION = flags.DEFINE_string("curation", None, "folder of rsfm_jax.curate: make a dataset of the image sets that it kept")
_DRAFT = flags.DEFINE_bool("draft", False, "write a scenes.yaml into the folder --scenes, with a ? where it needs you")
_REPORT = flags.DEFINE_string("report", None, "dataset folder to write a page about, instead of making one")
_CONFIG = cli.define_config()


def print_summary(summary: dict[str, Any], out: pathlib.Path) -> None:
    """Prints what was kept and what was rejected, by layout."""
    print(f"{'layout':<32} {'train':>7} {'val':>6} {'rejected':>9}")
    for name, counts in summary["sets"].items():
        rejected = summary["rejected"][name]
        print(f"{name:<32} {counts.get('train', 0):>7} {counts.get('val', 0):>6} {sum(rejected.values()):>9}")
        if not counts and not rejected and not summary["left_out"][name]:
            print(f"{'':<32} no set: its members share no ground large enough for a chip")
        for reason, count in rejected.items():
            print(f"{'':<32} rejected: {count} x {reason}")
        for reason, count in summary["left_out"][name].items():
            print(f"{'':<32} left out: {count} x {reason}")
    for name, error in summary["broken_scenes"].items():
        print(f"left out: scene {name!r}: {error}")
    for name, error in summary["partly_unreadable_scenes"].items():
        print(f"partly left out: scene {name!r}: {error}")
    for error in summary["broken_products"]:
        print(f"left out: {error}")
    for found in summary["duplicates"]:
        alike = found["kind"] == "pixels"
        what = (
            f"duplicate of {found['of']}, left out" if alike else f"the same acquisition as {found['of']}, with other values; both are kept"
        )
        print(f"scene {found['scene']}: {what}")
    for line in summary["unrecognised_files"]:
        print(f"not recognised: {line}")
    for sensor, bands in summary["unused_bands"].items():
        print(f"bands that no layout reads: {sensor} {', '.join(bands)}")
    print(f"wrote {out} (every scene and set with its reason: {out / 'manifest.jsonl'})")


def _report(dataset: str) -> None:
    folder = pathlib.Path(cli.required_flag("report", dataset, "data/run1"))
    from rsfm_jax.ingest.report.page import write_report  # imports matplotlib

    print(f"wrote {write_report(folder, pathlib.Path(_OUT.value) if _OUT.value else None)}")


def _draft() -> None:
    folder = pathlib.Path(cli.required_flag("scenes", _SCENES.value, "scenes/"))
    needs = write_draft(folder)
    for need in needs:
        print(f"needs you: {need}")
    print(f"wrote {folder / 'scenes.yaml'}; what needs you in it: {len(needs) or 'nothing'}")


def _alone(flag: str, others: dict[str, bool]) -> None:
    """Raises where a flag is given that has no meaning beside ``flag``."""
    for other, is_given in others.items():
        if is_given:
            raise InputError(f"--{other} has no meaning beside --{flag}; leave one of them out")


def _run() -> None:
    if cli.show_help(sys.argv, __doc__ or ""):
        return
    words, beam_words = cli.split_words(sys.argv)
    cli.parse(words)
    logging.set_verbosity(logging.WARNING)
    made = {"config": _CONFIG.value is not None, "strict": _STRICT.value, "workers": _WORKERS.value != 1, "(Beam's)": bool(beam_words)}
    made["curation"] = _CURATION.value is not None
    if _REPORT.value is not None:
        _alone("report", {"scenes": _SCENES.value is not None, "draft": _DRAFT.value} | made)
        _report(_REPORT.value)
    elif _DRAFT.value:
        _alone("draft", {"out": _OUT.value is not None} | made)
        _draft()
    else:
        scenes = pathlib.Path(cli.required_flag("scenes", _SCENES.value, "scenes/"))
        out = pathlib.Path(cli.required_flag("out", _OUT.value, "data/run1"))
        config = cli.loaded_config(_CONFIG, required=False)
        keep = None if _CURATION.value is None else kept_keys(epath.Path(_CURATION.value), "--curation")
        how = How(strict=_STRICT.value, beam_args=beam_arguments(_WORKERS.value, beam_words), keep=keep)
        print_summary(run_ingest(scenes, out, config.ingest, how), out)


if __name__ == "__main__":
    sys.exit(exit_code(_run))
