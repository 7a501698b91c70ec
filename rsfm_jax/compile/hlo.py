"""What a compiled program says of itself: its collectives and its largest arrays, read from the text of the partitioned HLO.

The text is that of one chip: shapes are shards, and a loop's body is written once. Computations are walked from the entry, bodies of loops
counted as often as they run.
"""

from collections.abc import Iterator
import dataclasses
import math
import re

ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|called_computations)=\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)")
_FUSED_SCATTER = "all-reduce-scatter"  # the TPU compiler's: an all-reduce of which each chip keeps its part
_FUSED_WITH_WORK = "async_collective_fusion"
_FREE = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional", "call")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: One of `KINDS`.
      array: The largest array it makes or takes, as ``bf16[1024,4096]``.
      array_bytes: Size of all its arrays, each whole.
      largest_bytes: Size of the largest of them.
      sent_bytes: What each chip sends over its links each time, by the ring algorithm.
      times: How often it runs in one step.
      inside_loop: Whether it is in a loop over layers.
      beside: Whether the chip can work on while it runs: it has a start and an end apart, or is fused with other work.
    """

    kind: str
    array: str
    array_bytes: int
    largest_bytes: int
    sent_bytes: int
    times: int
    inside_loop: bool
    beside: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of HLO text."""

    name: str
    arrays: tuple[tuple[str, int], ...]  # text and bytes of each array of the result
    opcode: str
    line: str


class Program:
    """A module's text, taken apart."""

    def __init__(self, text: str) -> None:
        """Reads ``compiled.as_text()``.

        Args:
          text: The HLO module.
        """
        self.computations: dict[str, list[Instruction]] = {}
        self.entry, current = "", None
        for line in text.splitlines():
            if line and not line[0].isspace() and line.rstrip().endswith("{") and "(" in line:
                head = line.removeprefix("ENTRY ").split(" (", 1)[0].lstrip("%").strip()
                current = self.computations.setdefault(head, [])
                if line.startswith("ENTRY "):
                    self.entry = head
            elif current is not None and (match := _INSTRUCTION.match(line)):
                current.append(_instruction(match["name"], match["rest"], line))
        fusions = (i.line for instructions in self.computations.values() for i in instructions if i.opcode == "fusion")
        self.fused = {name.strip().lstrip("%") for line in fusions for _, names in _CALLED.findall(line) for name in names.split(",")}

    def trips(self, line: str, condition: str) -> int:
        """How often a loop runs: as its line says, or the constant that its counter is compared with.

        Raises:
          ValueError: neither is there.
        """
        if match := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
            return int(match[1])
        bounds = [int(m[1]) for i in self.computations[condition] if (m := re.search(r" constant\((\d+)\)", i.line))]
        if len(bounds) != 1:
            raise ValueError(f"the program has a loop that runs nobody knows how often: condition {condition}, constants {bounds}")
        return bounds[0]

    def walk(self) -> Iterator[tuple[str, Instruction, int, bool]]:
        """All instructions that run: their computation, themselves, how often, and whether in a loop."""
        yield from self._walk(self.entry, 1, False)

    def _walk(self, name: str, times: int, looped: bool) -> Iterator[tuple[str, Instruction, int, bool]]:
        for instruction in self.computations[name]:
            yield name, instruction, times, looped
            called = {role: [c.strip().lstrip("%") for c in names.split(",")] for role, names in _CALLED.findall(instruction.line)}
            if instruction.opcode == "while":
                trips = self.trips(instruction.line, called["condition"][0])
                yield from self._walk(called["body"][0], times * trips, True)
            elif instruction.opcode in ("fusion", "call", "conditional", "custom-call", "async-start"):
                for role in ("calls", "to_apply", "branch_computations", "called_computations"):
                    for computation in called.get(role, ()):
                        yield from self._walk(computation, times, looped)


def _instruction(name: str, rest: str, line: str) -> Instruction:
    shape, after = _split_shape(rest)
    arrays = tuple((f"{dtype}[{dims}]", _array_bytes(dtype, dims)) for dtype, dims in _ARRAY.findall(shape) if dtype in ITEM_BYTES)
    return Instruction(name, arrays, after.split("(", 1)[0].strip(), line)


def _split_shape(rest: str) -> tuple[str, str]:
    if not rest.startswith("("):
        shape, _, after = rest.partition(" ")
        return shape, after
    depth = 0
    for i, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[: i + 1], rest[i + 1 :].strip()
    return rest, ""


def _array_bytes(dtype: str, dims: str) -> int:
    return ITEM_BYTES[dtype] * math.prod(int(d) for d in dims.split(",") if d)


def group_size(line: str, devices: int) -> int:
    """How many chips take part in a collective.

    Args:
      line: Its line.
      devices: Chips of the program.

    Returns:
      The size of its groups.
    """
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return match[1].count(",") + 1
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
        return math.prod(sizes[name] for name in re.findall(r"'([^']+)'", match[2]))
    return devices


def collectives(program: Program, devices: int) -> list[Collective]:
    """The program's collectives, each once.

    Args:
      program: The program.
      devices: Chips it runs on.

    Returns:
      One entry for each, largest traffic first.
    """
    found: dict[tuple[str, str], Collective] = {}
    for place, instruction, times, looped in program.walk():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        scatter = place.startswith(_FUSED_SCATTER)
        channel = re.search(r"channel_id=(\d+)", instruction.line)
        # parts of an asynchronous collective are written several times with one channel; fused scatters all have channel 1
        key = (kind, place.split(".clone")[0]) if scatter else (kind, channel[1] if channel else f"{place} {instruction.name}")
        arrays = instruction.arrays
        if instruction.opcode.endswith("-start") and kind != "all-reduce":  # what it takes, then what it makes, then scalars
            parts = [array for array in arrays if not array[0].endswith("[]")] or arrays[:2]
            arrays = tuple(parts[len(parts) // 2 :])
        size = sum(array_bytes for _, array_bytes in arrays)
        chips = group_size(instruction.line, devices)
        kind = "reduce-scatter" if scatter else kind
        whole = size * chips if kind == "reduce-scatter" and not scatter else size  # of a plain one the result is a shard
        sent = {"all-reduce": 2 * whole * (chips - 1) // chips, "collective-permute": whole}.get(kind, whole * (chips - 1) // chips)
        largest, largest_bytes = max(arrays, key=lambda a: a[1])
        apart = instruction.opcode.endswith("-start") and '"is_sync":true' not in instruction.line  # XLA's mark of one with nothing between
        beside = apart or place.startswith(_FUSED_WITH_WORK) or (key in found and found[key].beside)
        if chips > 1:
            found[key] = Collective(kind, largest, whole, largest_bytes, sent, times, looped, beside)
    return sorted(found.values(), key=lambda c: -c.sent_bytes * c.times)


def estimated_cycles(program: Program) -> int:
    """What the TPU compiler estimates that one step takes on a chip, in clock cycles; its estimate leaves out waiting for other chips."""
    cycles = 0
    for place, instruction, times, _ in program.walk():
        if place not in program.fused and (match := re.search(r'"estimated_cycles":"(\d+)"', instruction.line)):
            cycles += int(match[1]) * times
    return cycles


def largest_arrays(program: Program, count: int) -> list[tuple[str, int, str]]:
    """The largest arrays that the program's own instructions make.

    Args:
      program: The program.
      count: How many.

    Returns:
      Shape, bytes and the operation it comes from, each shape once, largest first.
    """
    found: dict[str, tuple[str, int, str]] = {}
    for place, instruction, _, _ in program.walk():
        if place in program.fused or instruction.opcode in _FREE:
            continue
        source = re.search(r'op_name="([^"]*)"', instruction.line)
        for shape, size in instruction.arrays:
            found.setdefault(shape, (shape, size, source[1] if source else instruction.opcode))
    return sorted(found.values(), key=lambda row: -row[1])[:count]
