"""The true train step, compiled for devices that need not be there."""

import time
from typing import Any

import jax

from rsfm_jax.compile.hlo import Program as Hlo
from rsfm_jax.compile.hlo import collectives, estimated_cycles, largest_arrays
from rsfm_jax.compile.report import Report, shard_bytes
from rsfm_jax.compile.topology import Topology
from rsfm_jax.errors import first_line
from rsfm_jax.layouts import Layout
from rsfm_jax.train.flops import step_flops
from rsfm_jax.train.program import Program

_LARGEST = 8


class DoesNotFitError(RuntimeError):
    """A program that the compiler cannot lay out at all."""


def compile_report(program: Program, layout: Layout, topology: Topology) -> Report:
    """Compiles the step of one layout and reads what the compiler says of it.

    Args:
      program: A config laid out on the topology's devices.
      layout: The layout.
      topology: What the devices are.

    Returns:
      The report.

    Raises:
      DoesNotFitError: the compiler gave up on a single array.
    """
    abstract, batch = program.held, program.abstract_batch(layout)
    lowered = program.step(layout).lower(abstract, batch)  # pyright: ignore[reportFunctionMemberAccess]
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFitError(
            f"{topology.name}, layout {layout.name}: the compiler finds no memory for a single array ({first_line(error)}); where "
            "it is of the batch lower config.data.global_batch_size, where of the parameters raise config.parallel.fsdp"
        ) from None
    seconds = time.perf_counter() - begin
    memory, hlo = compiled.memory_analysis(), Hlo(compiled.as_text())
    found = collectives(hlo, topology.chips)
    gathers = [c for c in found if c.kind == "all-gather"]
    of_layer = layer_bytes(program)
    rows, shape = program.config.data.global_batch_size, program.mesh.shape
    state_bytes = shard_bytes(abstract.params) + shard_bytes(abstract.opt_state)
    return Report(
        layout=layout.name,
        topology=topology.name,
        slices=topology.slices,
        chips=topology.chips,
        device_batch_size=rows // (shape["data"] * shape["fsdp"]),
        params_bytes=shard_bytes(abstract.params),
        optimizer_bytes=shard_bytes(abstract.opt_state),
        batch_bytes=memory.argument_size_in_bytes - state_bytes,
        activations_bytes=memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        program_bytes=memory.generated_code_size_in_bytes,
        hbm_bytes=topology.generation.hbm_bytes,
        flops=step_flops(program.config, layout) * rows / topology.chips,
        peak_flops=topology.generation.peak_flops,
        collectives=found,
        held_bytes=0 if program.config.model.unroll else state_bytes,
        largest_gather=(max((c.largest_bytes for c in gathers), default=0), max(of_layer)),
        gathered_at_once=(max((c.array_bytes for c in gathers), default=0), sum(of_layer)),
        largest=largest_arrays(hlo, _LARGEST),
        estimated_cycles=estimated_cycles(hlo),
        compile_s=seconds,
    )


def layer_bytes(program: Program) -> list[int]:
    """Sizes of the parameters of one encoder layer in the compute type, or of those outside the layers where one of them is larger."""
    item = jax.numpy.dtype(program.config.model.compute_dtype).itemsize
    layers, others = [], []

    def size(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> None:
        names = [part.key for part in path]
        if "layers" not in names:
            others.append(item * leaf.size)
        elif names[0] == "encoder":
            layers.append(item * leaf.size // leaf.shape[0])

    jax.tree_util.tree_map_with_path(size, program.model.shapes)
    return layers if max(layers) >= max(others) else [*layers, max(others)]
