"""From the example scenes to PyTorch weights, through the front doors, with a table at the end.

    python examples/demo.py --out=demo

Makes OUT/data, OUT/run, OUT/weights and OUT/summary.json. A run that was stopped continues; a finished one is made anew.
"""

import argparse
import importlib.util
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo.py"
LAST = 50  # steps that the final loss is averaged over


def door(verb: str, *flags: str) -> None:
    """Runs a front door; stops the demo with its exit code when it fails."""
    print(f"\n$ python -m rsfm_jax.{verb} {' '.join(flags)}", flush=True)
    code = subprocess.run([sys.executable, "-m", f"rsfm_jax.{verb}", *flags], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def summarise(out: pathlib.Path) -> dict[str, Any]:
    """Collects the demo's figures from the files that the front doors wrote."""
    dataset = json.loads((out / "data" / "dataset.json").read_text())
    rows = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    laps = [row for row in rows if "seconds" in row]
    seconds = sum(row["seconds"] for row in laps)
    parity = json.loads((out / "weights" / "parity.json").read_text())
    return {
        "sets": sum(sum(counts.values()) for counts in dataset["sets"].values()),
        "layouts": len(dataset["layouts"]),
        "steps": rows[-1]["step"],
        "loss_first": rows[0]["loss"],
        "loss_last": statistics.fmean(row["loss"] for row in rows[-LAST:]),
        "sets_per_s": statistics.median(row["sets_per_s"] for row in laps),
        "data_wait_share": sum(row["data_wait_share"] * row["seconds"] for row in laps) / seconds,
        "parity_max_abs": max(row["tokens_max_abs"] for row in parity),
        "export_dir": str(out / "weights"),
    }


def main() -> None:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo"))
    parser.add_argument("overrides", nargs="*", help="passed on to training, as --config.train.steps=100 after --")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: the demo ends with PyTorch weights and there is no PyTorch here: pip install 'rsfm_jax[torch]'")
    begin = time.perf_counter()
    if (out / "summary.json").exists():
        for name in ("data", "run", "weights"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "summary.json").unlink()
    if not (out / "data").exists():
        door("ingest", f"--scenes={ROOT / 'examples' / 'scenes'}", f"--out={out / 'data'}", f"--config={CONFIG}")
    door("train", f"--config={CONFIG}", f"--workdir={out / 'run'}", f"--config.data.path={out / 'data'}", *arguments.overrides)
    if not (out / "weights").exists():
        door("export", f"--workdir={out / 'run'}", f"--out={out / 'weights'}")
    summary = summarise(out)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    norm_pix = json.loads((out / "run" / "config.json").read_text())["config"]["loss"]["norm_pix"]
    print(f"\n{'loss by layout':<26} {'patch mean':>10} {'first':>8} {'last':>8}")
    for name, (trivial, first, last) in _by_layout(out).items():
        print(f"{name:<26} {f'{trivial:.3f}' if norm_pix else '-':>10} {first:>8.3f} {last:>8.3f}")
    print()
    for name, value in summary.items():
        print(f"{name:<26} {value:.4g}" if isinstance(value, float) else f"{name:<26} {value}")
    print(f"{'minutes':<26} {(time.perf_counter() - begin) / 60:.1f}")
    print(f"pictures: {out / 'run' / 'pictures'}; curves: tensorboard --logdir {out / 'run' / 'tensorboard'}")


def _by_layout(out: pathlib.Path) -> dict[str, tuple[float, float, float]]:
    """For each layout the loss of predicting each patch's mean, the first loss, and the mean of the last ten."""
    losses: dict[str, list[float]] = {}
    for line in (out / "run" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        losses.setdefault(row["layout"], []).append(row["loss"])
    table = {}
    for layout in json.loads((out / "data" / "dataset.json").read_text())["layouts"]:
        values = [slot["patch"] ** 2 * len(slot["bands"]) for slot in layout["slots"]]
        seen = losses.get(layout["name"], [])
        if seen:
            table[layout["name"]] = (statistics.fmean((p - 1) / p for p in values), seen[0], statistics.fmean(seen[-10:]))
    return table


if __name__ == "__main__":
    main()
