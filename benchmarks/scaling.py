"""What the TPU compiler says of pods, written into docs/performance.md: which sizes fit where, and weak scaling from 16 to 1,024 chips.

    python benchmarks/scaling.py --work=runs/scaling

Each row is a `python -m rsfm_jax.compile --json` of its own, on this machine's CPU; needs libtpu (`pip install -e '.[tpu]'`). What is done
is kept under --work by a hash of the command and the package's source, so the same command goes on where it was stopped. The page's prose
is written by hand; what lies between its markers is replaced.
"""

import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT
from benchmarks.pages import markdown_table, replace_between
from rsfm_jax.errors import InputError, exit_code

PAGE = ROOT / "docs" / "performance.md"
MIB = 2**20
DEVICE_BATCH_SIZE = 16
FITS = (  # size, topology, slices
    ("vit_l_pod", "v5e:16x16", 1),
    ("vit_l_pod", "v6e:16x16", 1),
    ("vit_l_pod", "v5p:8x8x8", 1),
    ("vit_l_pod", "v5e:16x16", 2),
    ("vit_h_pod", "v5p:8x8x8", 1),
    ("vit_g_pod", "v5p:8x8x8", 1),
)
SCALES = {"v5p:2x2x4": 16, "v5p:4x4x4": 64, "v5p:4x4x8": 128, "v5p:4x8x8": 256, "v5p:8x8x8": 512, "v5p:8x8x16": 1024}


def command(size: str, topology: str, slices: int, batch: int | None) -> list[str]:
    """Words after ``python -m rsfm_jax.compile``."""
    words = [f"--config=configs/a2mae.py:{size}", f"--topology={topology}"]
    words += [f"--slices={slices}"] if slices > 1 else []
    return words + ([f"--config.data.global_batch_size={batch}"] if batch else [])


def source_digest() -> str:
    """Eight digits of the package's and the config's source."""
    files = sorted([*ROOT.glob("rsfm_jax/**/*.py"), ROOT / "configs" / "a2mae.py"])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def compiled(words: list[str], work: pathlib.Path) -> dict[str, Any]:
    """The report of one command, from ``work`` or from the compiler.

    Raises:
      InputError: the command failed in another way than not fitting.
    """
    file = work / f"{hashlib.sha256(' '.join([source_digest(), *words]).encode()).hexdigest()[:12]}.json"
    if not file.exists():
        done = subprocess.run(
            [sys.executable, "-m", "rsfm_jax.compile", *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 3):
            raise InputError(f"python -m rsfm_jax.compile {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(done.stdout)
    report = json.loads(file.read_text())
    print(f"{' '.join(words)}: {report['total_bytes'] / MIB:,.0f} MiB a chip", flush=True)
    return report


def fits_table(reports: list[tuple[str, dict[str, Any]]]) -> str:
    """Rows of what fits, as Markdown."""
    columns = ("size", "topology", "chips", "sets a chip", "parameters", "moments", "batch", "activations", "total", "of HBM")
    rows = []
    for size, r in reports:
        where = f"{r['slices']} x {r['topology']}" if r["slices"] > 1 else r["topology"]
        mib = [f"{r[f'{name}_bytes'] / MIB:,.0f}" for name in ("params", "optimizer", "batch", "activations", "total")]
        cells = [size, where, r["chips"], r["device_batch_size"], *mib, f"{r['hbm_share']:.1%}", f"{r['flops'] / 1e12:.2f}"]
        rows.append([*cells, f"{r['collective_bytes_total'] / MIB:,.0f}", "yes" if r["gathers_one_layer"] else "NO"])
    return markdown_table((*columns, "TFLOP a step", "MiB sent", "one layer at a time"), rows)


def scaling_table(reports: list[dict[str, Any]]) -> str:
    """Rows of weak scaling, as Markdown."""
    kinds = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute")
    base = next(r["collective_bytes_total"] for r in reports if r["chips"] == 64)
    rows = []
    for r in reports:
        sent = [f"{r['collective_bytes'][kind] / MIB:,.1f}" for kind in kinds]
        total = r["collective_bytes_total"]
        rows.append([r["topology"], r["chips"], f"{r['total_bytes'] / MIB:,.0f}", *sent, f"{total / MIB:,.1f}", f"{total / base:.3f}"])
    return markdown_table(("topology", "chips", "total", *kinds, "all MiB sent", "over 64 chips"), rows)


def run(work: pathlib.Path, jobs: int) -> None:
    """Compiles everything and writes the page."""
    wanted = [command(size, topology, slices, None) for size, topology, slices in FITS]
    wanted += [command("vit_l_pod", topology, 1, DEVICE_BATCH_SIZE * chips) for topology, chips in SCALES.items()]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        reports = list(pool.map(lambda words: compiled(words, work), wanted))
    fits = [(size.removesuffix("_pod"), report) for (size, _, _), report in zip(FITS, reports, strict=False)]
    replace_between(PAGE, "fits", fits_table(fits))
    replace_between(PAGE, "scaling", scaling_table(reports[len(FITS) :]))


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "scaling", help="reports are kept here")
    parser.add_argument("--jobs", type=int, default=2, help="compilations at a time, about 2 GiB each")
    given = parser.parse_args()
    return exit_code(lambda: run(given.work.resolve(), given.jobs))


if __name__ == "__main__":
    sys.exit(main())
