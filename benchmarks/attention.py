"""Attention on TPU, two ways, by what the compiler says: ours (`rsfm_jax.nn.attention`) and JAX's Pallas flash kernel.

    python benchmarks/attention.py --topology=v5e:1x1

Compiles forward and backward pass of one layer's attention, projections left out, for the shapes of ViT-L A2-MAE on one chip: 16 image sets
of three images, in the encoder 147 visible tokens, in the decoder all 588. The kernel wants tokens in multiples of 128, so they are padded
and told apart by segment. Prints temporary memory and the cycles that the compiler estimates for its own operations; those inside the
kernel it does not know. Needs libtpu (`pip install -e '.[tpu]'`).
"""

import argparse
from collections.abc import Callable
import json
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rsfm_jax.compile.topology import parse_topology, pod_devices, prepare_compiler
from rsfm_jax.errors import exit_code

SETS = 16
SHAPES = {"encoder": (147, 16, 64), "decoder": (588, 16, 32)}  # tokens, heads, head dim
_LANES = 128


def kernel_attention(q_BTAE: Any, k_BTAE: Any, v_BTAE: Any, real_BT: Any) -> Any:
    """The Pallas kernel on padded tokens."""
    from jax.experimental.pallas.ops.tpu import flash_attention as flash
    import jax.numpy as jnp

    tokens, _, width = q_BTAE.shape[1:]
    more = -tokens % _LANES
    padded = [jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))).transpose(0, 2, 1, 3) for x in (q_BTAE, k_BTAE, v_BTAE)]
    segment_BT = jnp.pad(real_BT, ((0, 0), (0, more))).astype(jnp.int32)
    block = flash.BlockSizes(**dict.fromkeys(flash.BlockSizes.__dataclass_fields__, _LANES) | {"block_b": 1})
    mixed = flash.flash_attention(*padded, segment_ids=flash.SegmentIds(segment_BT, segment_BT), sm_scale=width**-0.5, block_sizes=block)
    return mixed.transpose(0, 2, 1, 3)[:, :tokens]


def measure(name: str, attention: Callable[..., Any], shape: tuple[int, int, int], device: Any) -> dict[str, Any]:
    """Compiles forward and backward pass for a device.

    Args:
      name: What it is.
      attention: Function of q, k, v (B, T, A, E) and the real tokens (B, T).
      shape: Tokens, heads, head dim.
      device: A device of a topology.

    Returns:
      ``temporary_mib`` and ``estimated_cycles``.
    """
    import jax
    import jax.numpy as jnp

    tokens, heads, width = shape
    place = jax.sharding.SingleDeviceSharding(device)
    x = jax.ShapeDtypeStruct((SETS, tokens, heads, width), jnp.bfloat16, sharding=place)
    real = jax.ShapeDtypeStruct((SETS, tokens), jnp.bool_, sharding=place)

    def loss(q: Any, k: Any, v: Any, real_BT: Any) -> Any:
        return jnp.square(attention(q, k, v, real_BT).astype(jnp.float32)).sum()

    compiled: Any = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x, real).compile()
    from rsfm_jax.compile.hlo import Program, estimated_cycles

    found = {"attention": name, "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20}
    return found | {"estimated_cycles": estimated_cycles(Program(compiled.as_text()))}


def run(topology: str) -> None:
    """Compiles both for both shapes and prints one JSON line each."""
    described = parse_topology(topology, 1)
    prepare_compiler()
    from rsfm_jax.nn.attention import plain_attention

    device = pod_devices(described)[0]
    for place, shape in SHAPES.items():
        for name, attention in (("ours", plain_attention), ("pallas", kernel_attention)):
            print(json.dumps({"topology": topology, "in": place} | measure(name, attention, shape, device)), flush=True)


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:1x1")
    given = parser.parse_args()
    return exit_code(lambda: run(given.topology))


if __name__ == "__main__":
    sys.exit(main())
