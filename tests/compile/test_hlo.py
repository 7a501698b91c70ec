"""Reading HLO: collectives of real compiled programs, and the forms the TPU compiler writes."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import pytest

from rsfm_jax.compile.hlo import Program, collectives, estimated_cycles, group_size, largest_arrays

LAYERS, WIDTH, ROWS = 3, 64, 32


@pytest.fixture(scope="module")
def gathering() -> Program:
    """A scan over layers whose weights are divided over 4 devices and gathered in the loop, and a sum over 8 devices."""
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)

    def place(x, *axes):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*axes)))

    def loss(weights, x):
        def layer(x, w):
            return place(jnp.tanh(x @ place(w, None, None)), ("data", "fsdp"), None), None

        return jnp.square(jax.lax.scan(layer, x, weights)[0]).sum()

    weights = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "fsdp")))
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    return Program(jax.jit(loss).lower(weights, x).compile().as_text())


def test_a_collective_in_a_loop_counts_as_often_as_it_runs(gathering: Program):
    found = collectives(gathering, 8)
    (gather,) = [c for c in found if c.kind == "all-gather"]
    assert (gather.times, gather.inside_loop) == (LAYERS, True)
    assert gather.array_bytes == 4 * WIDTH * WIDTH
    assert gather.sent_bytes == 4 * WIDTH * WIDTH * 3 // 4
    (total,) = [c for c in found if c.kind == "all-reduce"]
    assert (total.times, total.inside_loop, total.array_bytes, total.sent_bytes) == (1, False, 4, 2 * 4 * 7 // 8)


def test_the_largest_arrays_come_with_their_operation(gathering: Program):
    shape, size, source = largest_arrays(gathering, 1)[0]
    assert shape in (f"f32[{WIDTH},{WIDTH}]", f"f32[1,{WIDTH},{WIDTH}]")
    assert size == 4 * WIDTH * WIDTH
    assert "while/body" in source


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups=[4,2]<=[8]", 2),
        ("replica_groups=mesh['axis_0'=1,'axis_1'=16,'axis_2'=8], device_ids=([8,16]T(1,0)) {'axis_1'}, dimensions={0}", 16),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}, x", 8),
        ("replica_groups={}", 8),
    ],
)
def test_the_size_of_a_group_in_every_form(groups: str, size: int):
    assert group_size(f"%x = f32[2] all-gather(%y), channel_id=1, {groups}", 8) == size


TPU_TEXT = """HloModule step

%all-reduce-scatter.1.clone.1 (input: bf16[64,32]) -> bf16[16,32] {
  %input = bf16[64,32]{1,0} parameter(0)
  %all-reduce.1 = bf16[64,32]{1,0} all-reduce(%input), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %dynamic-slice.1 = bf16[16,32]{1,0} dynamic-slice(%all-reduce.1, %c), dynamic_slice_sizes={16,32}
}

%start (p: bf16[16,32]) -> bf16[64,32] {
  %p = bf16[16,32]{1,0} parameter(0)
  %move.1 = bf16[16,32]{1,0} copy(%p), backend_config={"estimated_cycles":"7"}
  ROOT %all-gather.1 = bf16[64,32]{1,0} all-gather(%move.1), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%async_collective_fusion.5 (q: bf16[16,32]) -> bf16[64,32] {
  %q = bf16[16,32]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[64,32]{1,0} all-gather(%q), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%body (s: (s32[], bf16[16,32])) -> (s32[], bf16[16,32]) {
  %s = (s32[], bf16[16,32]{1,0}) parameter(0)
  %x = bf16[16,32]{1,0} get-tuple-element(%s), index=1
  %fusion.1 = bf16[64,32]{1,0} fusion(%x), kind=kCustom, calls=%start, backend_config={"estimated_cycles":"100"}
  %fusion.2 = bf16[64,32]{1,0} fusion(%x), kind=kCustom, calls=%async_collective_fusion.5
  %fusion.3 = bf16[16,32]{1,0} fusion(%fusion.2), kind=kCustom, calls=%all-reduce-scatter.1.clone.1
  ROOT %t = (s32[], bf16[16,32]{1,0}) tuple(%s, %fusion.3)
}

%cond (u: (s32[], bf16[16,32])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(24)
  %u = (s32[], bf16[16,32]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%u), index=0
  ROOT %lt = pred[] compare(%n, %constant.1), direction=LT
}

ENTRY %main (a: (s32[], bf16[16,32])) -> (s32[], bf16[16,32]) {
  %a = (s32[], bf16[16,32]{1,0}) parameter(0)
  ROOT %while.1 = (s32[], bf16[16,32]{1,0}) while(%a), condition=%cond, body=%body
}
"""


def test_what_the_tpu_compiler_writes():
    """Parts of one asynchronous gather share a channel; a fused scatter is an all-reduce of which each chip keeps a part."""
    found = {c.kind: c for c in collectives(Program(TPU_TEXT), 4)}
    assert set(found) == {"all-gather", "reduce-scatter"}
    whole = 2 * 64 * 32
    for collective in found.values():
        assert (collective.array_bytes, collective.sent_bytes, collective.times) == (whole, whole * 3 // 4, 24)
        assert collective.beside == (collective.kind == "all-gather")


def test_cycles_are_counted_as_often_as_they_run_and_not_again_inside_a_fusion():
    assert estimated_cycles(Program(TPU_TEXT)) == 24 * 100


@pytest.mark.parametrize(
    ("line", "kind", "array_bytes", "sent_bytes"),
    [
        ("((f32[8,4], f32[2]), (f32[32,4], f32[8])) all-gather-start(%a, %b)", "all-gather", 4 * (128 + 8), 3 * (128 + 8)),
        ("((f32[32,4]), f32[8,4]) reduce-scatter-start(%a)", "reduce-scatter", 4 * 128, 3 * 128),
        ("(f32[8,4], f32[8,4], u32[], u32[]) collective-permute-start(%a)", "collective-permute", 4 * 32, 4 * 32),
        ("(f32[32], f32[8]) all-reduce-start(%a, %b)", "all-reduce", 4 * 40, 2 * 3 * 40),
        ("(f32[8,4], f32[8,4]) all-to-all-start(%a)", "all-to-all", 4 * 32, 3 * 32),
        ("(f32[], f32[], u32[], u32[]) collective-permute-start(%a)", "collective-permute", 4, 4),
    ],
)
def test_what_starts_and_ends_apart(line: str, kind: str, array_bytes: int, sent_bytes: int):
    """The result of a start holds what it takes beside what it makes; only the latter counts."""
    text = f"ENTRY %main (a: f32[8]) -> f32[8] {{\n  %x = {line}, channel_id=3, replica_groups={{{{0,1,2,3}}}}\n}}\n"
    (found,) = collectives(Program(text), 4)
    assert (found.kind, found.array_bytes, found.sent_bytes, found.beside) == (kind, array_bytes, sent_bytes, True)


def test_a_start_with_nothing_between_is_not_beside_work():
    """XLA writes so on GPUs where it found nothing to do meanwhile."""
    line = "(f32[8,4], f32[32,4]) all-gather-start(%a), channel_id=3, replica_groups={{0,1,2,3}}"
    for config, beside in (("", True), (', backend_config={"collective_backend_config":{"is_sync":true}}', False)):
        (found,) = collectives(Program(f"ENTRY %main (a: f32[8]) -> f32[8] {{\n  %x = {line}{config}\n}}\n"), 4)
        assert found.beside == beside


def test_a_loop_of_unknown_length_is_an_error():
    text = TPU_TEXT.replace("constant(24)", "parameter(1)")
    with pytest.raises(ValueError, match="runs nobody knows how often: condition cond"):
        collectives(Program(text), 4)
