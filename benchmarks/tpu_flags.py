"""Flags of the TPU compiler, by what they change: memory, the compiler's estimate of its own work, what is sent while the chip works.

    python benchmarks/tpu_flags.py --generations=v5e,v5p,v6e

Compiles the train step of a shortened ViT-L A2-MAE (4 and 2 blocks) for 16 chips of each generation, data 4 x fsdp 4, without a flag, with
each candidate, and with what launch/flags/GENERATION recommends; prints a table in Markdown. A flag that the compiler does not know ends
the script. Needs libtpu (`pip install -e '.[tpu]'`); about a minute and 2 GiB each.
Time on a chip is not among the figures: it needs the chip.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT
from rsfm_jax.errors import InputError, exit_code

TOPOLOGIES = {"v5e": "v5e:4x4", "v5p": "v5p:2x2x4", "v6e": "v6e:4x4"}
CANDIDATES = (
    "--xla_tpu_enable_async_collective_fusion=false",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_enable_data_parallel_all_reduce_opt=true --xla_tpu_data_parallel_opt_different_sized_ops=true",
)
MIB = 2**20
SHORT = ("depth=4", "decoder_depth=2")


def recommended(generation: str) -> str:
    """The flags of launch/flags/GENERATION, joined by spaces."""
    lines = (ROOT / "launch" / "flags" / generation).read_text().splitlines()
    return " ".join(line.split("#", 1)[0].strip() for line in lines if line.startswith("--"))


def compiled(generation: str, flags: str) -> dict[str, Any]:
    """The report of one compilation.

    Raises:
      InputError: the compiler refused the flags, or something else failed.
    """
    words = ["--config=configs/a2mae.py:vit_l_pod", f"--topology={TOPOLOGIES[generation]}", "--json", "--config.data.global_batch_size=256"]
    words += ["--config.parallel.fsdp=4", *(f"--config.model.{change}" for change in SHORT)]
    done = subprocess.run(
        [sys.executable, "-m", "rsfm_jax.compile", *words],
        cwd=ROOT,
        env=os.environ | {"LIBTPU_INIT_ARGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3) or len(done.stdout.splitlines()) != 1:
        raise InputError(
            f"{generation} with {flags or 'no flag'}: exit code {done.returncode}, no report of one layout\n{done.stderr[-2000:]}"
        )
    return json.loads(done.stdout)


def row(generation: str, flags: str, report: dict[str, Any], plain: dict[str, Any]) -> str:
    """A line of the table; cycles beside those without a flag."""
    sent = report["collective_bytes_total"]
    cycles = f"{report['estimated_cycles'] / 1e6:,.1f} ({report['estimated_cycles'] / plain['estimated_cycles']:.3f})"
    share = f"{report['beside_bytes'] / sent:.0%}"
    cells = (
        generation,
        f"`{flags}`" if flags else "none",
        f"{report['activations_bytes'] / MIB:,.0f}",
        cycles,
        f"{sent / MIB:,.0f}",
        share,
    )
    return "| " + " | ".join(cells) + " |"


def run(generations: list[str], jobs: int) -> None:
    """Compiles everything and prints the table."""
    for name in generations:
        if name not in TOPOLOGIES:
            raise InputError(f"--generations: there is no {name!r} (there are {', '.join(TOPOLOGIES)})")
    wanted = [(name, flags) for name in generations for flags in dict.fromkeys(("", *CANDIDATES, recommended(name)))]
    print(
        "| chip | flags | activations MiB | Mcycles (over none) | MiB sent | while the chip works |\n|---|---|---|---|---|---|", flush=True
    )
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        plain = {}
        for (name, flags), report in zip(wanted, pool.map(lambda one: compiled(*one), wanted), strict=True):
            plain.setdefault(name, report)
            print(row(name, flags, report, plain[name]), flush=True)


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", default=",".join(TOPOLOGIES))
    parser.add_argument("--jobs", type=int, default=2, help="compilations at a time")
    given = parser.parse_args()
    return exit_code(lambda: run(given.generations.split(","), given.jobs))


if __name__ == "__main__":
    sys.exit(main())
