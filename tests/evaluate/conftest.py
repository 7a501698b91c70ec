"""Without PyTorch there is nothing to evaluate: `rsfm_jax.evaluate` works on exported weights."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
