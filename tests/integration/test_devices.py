import os
import pathlib
import subprocess
import sys

import numpy as np

from rsfm_jax.train.metrics import read_metrics
from tests.helpers import REPO, train_words


def test_one_device_computes_what_eight_compute(trained: pathlib.Path, tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    """The whole run on one device; the first ten steps are compared, before rounding has had time to grow."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    words = train_words(tiny_path, tmp_path / "run", "--config.parallel.data=1")
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-m", "rsfm_jax.train", *words],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "on 1 device(s)" in done.stdout
    ours, expected = read_metrics(tmp_path / "run")[:10], read_metrics(trained)[:10]
    assert [row["layout"] for row in ours] == [row["layout"] for row in expected]
    np.testing.assert_allclose([row["loss"] for row in ours], [row["loss"] for row in expected], atol=1e-5)
    np.testing.assert_allclose([row["grad_norm"] for row in ours], [row["grad_norm"] for row in expected], rtol=1e-4)
