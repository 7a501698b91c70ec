"""What a pod would need, per chip, and whether it has it."""

import dataclasses
import json
import math
from typing import Any

import jax

from rsfm_jax.compile.hlo import KINDS, Collective
from rsfm_jax.config import Config

MIB = 2**20
_AIM = 0.85  # share of the HBM that advice aims at
_LARGE_STATE = 0.3  # share from which the state is worth dividing further


@dataclasses.dataclass(frozen=True)
class Report:
    """The step of one layout on one topology; bytes and FLOPs are those of one chip and one step.

    Attributes:
      layout: The layout's name.
      topology: The topology's name.
      slices: Number of slices.
      chips: Chips of all slices.
      device_batch_size: Image sets on each chip (on each group of chips that a 'tensor' axis joins).
      params_bytes: Parameters.
      optimizer_bytes: Moments.
      batch_bytes: The batch, and what the compiler pads of it and the state.
      activations_bytes: All the compiler needs besides: activations, gradients, buffers of collectives, copies.
      program_bytes: The program.
      hbm_bytes: What a chip has.
      flops: From shapes (`rsfm_jax.train.flops`), without recomputation.
      peak_flops: What a chip does in a second; None where unknown.
      collectives: The program's collectives.
      held_bytes: Parameters and moments a second time, while a state that is held one array a layer is stacked for a checkpoint.
      largest_gather: The largest array that is gathered, and the largest parameter of one layer, in bytes.
      gathered_at_once: The most that one collective gathers, and all parameters of one layer, in bytes.
      largest: The largest arrays: shape, bytes, operation.
      estimated_cycles: Clock cycles of the chip's own operations, by the TPU compiler's estimate; 0 on a GPU.
      compile_s: Time the compiler took, seconds.
    """

    layout: str
    topology: str
    slices: int
    chips: int
    device_batch_size: int
    params_bytes: int
    optimizer_bytes: int
    batch_bytes: int
    activations_bytes: int
    program_bytes: int
    held_bytes: int
    hbm_bytes: int
    flops: float
    peak_flops: float | None
    collectives: list[Collective]
    largest_gather: tuple[int, int]
    gathered_at_once: tuple[int, int]
    largest: list[tuple[str, int, str]]
    estimated_cycles: int
    compile_s: float

    @property
    def total_bytes(self) -> int:
        """Memory of one chip while the step runs, or while a checkpoint is taken if that is more."""
        step = self.batch_bytes + self.activations_bytes + self.program_bytes
        return self.params_bytes + self.optimizer_bytes + max(step, self.held_bytes)

    @property
    def hbm_share(self) -> float:
        """Total over what a chip has."""
        return self.total_bytes / self.hbm_bytes

    @property
    def fits(self) -> bool:
        """Whether a chip has enough."""
        return self.total_bytes <= self.hbm_bytes

    @property
    def gathers_one_layer(self) -> bool:
        """Whether no array larger than one layer's largest parameter is gathered, nor more than one layer at once."""
        return all(gathered <= layer for gathered, layer in (self.largest_gather, self.gathered_at_once))

    def sent_bytes(self) -> dict[str, int]:
        """What each chip sends in one step, by kind of collective."""
        sent: dict[str, int] = dict.fromkeys(KINDS, 0)
        for collective in self.collectives:
            sent[collective.kind] += collective.sent_bytes * collective.times
        return sent

    @property
    def beside_bytes(self) -> int:
        """What of it may be sent while the chip works on."""
        return sum(collective.sent_bytes * collective.times for collective in self.collectives if collective.beside)

    def to_dict(self) -> dict[str, Any]:
        """JSON: fields, and what is worked out of them; without the single collectives."""
        fields = dataclasses.asdict(self)
        del fields["collectives"]
        worked_out = {name: getattr(self, name) for name in ("total_bytes", "hbm_share", "fits", "gathers_one_layer", "beside_bytes")}
        return fields | worked_out | {"collective_bytes": self.sent_bytes(), "collective_bytes_total": sum(self.sent_bytes().values())}

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict())

    def to_text(self) -> str:
        """A table for people."""
        where = f"{self.topology}, {self.chips} chips" + (f" in {self.slices} slices" if self.slices > 1 else "")
        rows = [f"layout {self.layout} on {where}, {self.device_batch_size} image sets on each; compiled in {self.compile_s:.0f} s", ""]
        for name in ("params", "optimizer", "batch", "activations", "program", *(["held"] if self.held_bytes else []), "total"):
            rows.append(f"  {name:16}{getattr(self, f'{name}_bytes') / MIB:12,.0f} MiB")
        rows += [f"  {'of HBM':16}{self.hbm_share:12.1%}     ({self.hbm_bytes / MIB:,.0f} MiB)", ""]
        at_peak = f"  ({1e3 * self.flops / self.peak_flops:.1f} ms at the chip's peak)" if self.peak_flops else ""
        rows += [f"  {'FLOPs a step':16}{self.flops / 1e12:12,.3f} TFLOP{at_peak}"]
        if self.estimated_cycles:
            rows += [f"  {'own operations':16}{self.estimated_cycles / 1e6:12,.1f} million cycles, the compiler's estimate"]
        rows += ["", f"  {'collective':20}{'number':>8}{'MiB sent a step':>18}"]
        for kind, sent in self.sent_bytes().items():
            if number := sum(c.times for c in self.collectives if c.kind == kind):
                rows.append(f"  {kind:20}{number:8}{sent / MIB:18,.1f}")
        rows.append(f"  {'of it beside work':20}{'':8}{self.beside_bytes / MIB:18,.1f}")
        gather, layer = (size / MIB for size in self.largest_gather)
        verdict = "one layer at a time" if self.gathers_one_layer else "MORE THAN ONE LAYER AT A TIME"
        rows += ["", f"  largest gather {gather:.1f} MiB, largest parameter of a layer {layer:.1f} MiB: {verdict}"]
        return "\n".join(rows)


def shard_bytes(tree: Any) -> int:
    """Bytes of one chip's part of a pytree of `jax.ShapeDtypeStruct` with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def advice(report: Report, config: Config, fsdp: int, tensor: int) -> str:
    """What does not fit, and what to change, for a report that does not fit.

    Args:
      report: The report.
      config: The config it was made from.
      fsdp: Size of the mesh's axis of that name.
      tensor: Size of the other axis that divides parameters.

    Returns:
      Lines of text.
    """
    over, rows = report.total_bytes - report.hbm_bytes, report.device_batch_size
    lines = [f"does not fit: {over / MIB:,.0f} MiB too much; the largest arrays of a chip are"]
    lines += [f"  {size / MIB:10,.0f} MiB  {shape:28} {source}" for shape, size, source in report.largest]
    state = report.params_bytes + report.optimizer_bytes
    room = report.hbm_bytes * _AIM - state - report.program_bytes
    changes = []
    microbatches, activations, batch = config.train.microbatches, report.activations_bytes, report.batch_bytes
    divisors = [n for n in range(2, rows + 1) if rows % (n * microbatches) == 0]
    smaller = next((n for n in divisors if (activations + batch) / n <= room), None)
    if smaller:
        changes.append(
            f"  --config.data.global_batch_size={config.data.global_batch_size // smaller}: {rows // smaller} image sets a chip, by what "
            "activations take now"
        )
    more = next((n for n in divisors if activations / n + batch <= room), None)
    if more:
        changes.append(f"  --config.train.microbatches={more * microbatches}: the same batch, in more parts")
    if config.model.remat != "full":
        changes.append("  --config.model.remat=full: recompute the blocks in the backward pass")
    if report.held_bytes and state + report.held_bytes > report.hbm_bytes:
        changes.append("  --config.model.unroll=1: the state is held as checkpoints keep it, not a second time while one is taken")
    if (state > _LARGE_STATE * report.hbm_bytes or not changes) and 2 * fsdp * tensor <= report.chips // report.slices:
        changes.append(f"  --config.parallel.fsdp={2 * fsdp} or more: the state takes {state / MIB:,.0f} MiB")
    return "\n".join([*lines, "to change:", *(changes or ["  more chips, or a smaller model"])])
