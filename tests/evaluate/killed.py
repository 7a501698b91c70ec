"""Embeds a scene once without interruption, then kills (SIGKILL) such runs at every moment that matters and starts each again.

    python -m tests.evaluate.killed FOLDER

Prints JSON: for each killed run how many pieces were done when it was started again. A run is killed at the n-th time that it makes a file
durable, just before or just after, or while it puts the GeoTIFF together. Each run is a fork, so that PyTorch is loaded once.
"""

from collections.abc import Callable
import json
import os
import pathlib
import signal
import sys
from typing import Any

import torch

from rsfm_jax.evaluate.scenes import cog
from rsfm_jax.evaluate.scenes.embed import embed_scene
from tests.evaluate.scenes import make_scene


def forked(work: Callable[[], Any]) -> int:
    """Runs ``work`` in a process of its own; returns its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_me(*_: Any, **__: Any) -> None:
    """Dies at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: pathlib.Path) -> None:
    """Runs all of it; the scene and the model are in ``folder`` already."""
    torch.set_num_threads(1)
    scene = make_scene(folder, 33, 40, border=10)

    def embed(out: str) -> dict[str, Any]:
        return embed_scene(folder / "model", scene, folder / out, overlap_px=8)

    def embed_and_die(out: str, at: int, after: bool) -> None:
        fsync, calls = os.fsync, 0

        def dying(number: int) -> None:
            nonlocal calls
            calls += 1
            if calls == at and not after:
                kill_me()
            fsync(number)
            if calls == at:
                kill_me()

        os.fsync = dying
        if at == 0:
            cog.copy_raster = kill_me
        embed(out)

    assert forked(lambda: embed("whole.tif")) == 0
    found = {}
    for at, after in ((0, False), (2, True), (3, False), (3, True), (4, True), (8, False), (12, True)):
        out = f"killed_{at}_{after}.tif"
        assert forked(lambda out=out, at=at, after=after: embed_and_die(out, at, after)) == -signal.SIGKILL
        assert not (folder / out).exists()
        summary = folder / f"{out}.json"
        assert forked(lambda out=out, summary=summary: summary.write_text(json.dumps(embed(out)))) == 0
        found[out] = json.loads(summary.read_text())
    print(json.dumps(found))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
