"""Every knob of an experiment, typed, documented in one line and checked before anything starts.

A config file's ``get_config()`` returns a `Config`; `--config.section.field=value` overrides one field. Defaults live here and
nowhere else. Fields marked ``runtime`` say how a run executes, not what it computes, so they may change when a run is continued.
"""

import dataclasses
import difflib
from typing import Any

from rsfm_jax.errors import InputError
from rsfm_jax.sensors import get_sensor

POLICIES = ("consistent", "independent")
ANCHORS = ("random", "finest", "coarsest")
RESAMPLINGS = ("none", "nearest", "bilinear", "cubic", "average")
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "full")


def knob(default: Any, doc: str, runtime: bool = False) -> Any:
    """A dataclass field with its one line of documentation.

    Args:
      default: The default value, or a class without arguments to build it from.
      doc: What the knob does, in one line.
      runtime: True when a run may be continued with another value.

    Returns:
      The dataclass field.
    """
    metadata = {"doc": doc, "runtime": runtime}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _require(holds: bool, field: str, value: Any, wanted: str) -> None:
    if not holds:
        raise InputError(f"config.{field}={value!r}: must be {wanted}")


def _choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    close = difflib.get_close_matches(str(value), choices, n=1)
    _require(value in choices, field, value, f"one of {', '.join(choices)}" + (f" (did you mean {close[0]!r}?)" if close else ""))


@dataclasses.dataclass
class Slot:
    """One member's place in a layout: which bands of which sensor, on how many pixels of what size."""

    sensor: str = knob("", "sensor name in the registry")
    bands: tuple[str, ...] = knob((), "band names, in channel order")
    gsd_m: float = knob(0.0, "ground sampling distance of the chip, metres per pixel")
    pixels: int = knob(0, "chip height and width in pixels")
    patch: int = knob(0, "patch height and width in pixels; divides pixels")
    acquisition: str = knob("", "slots of one layout with the same letter come from one scene; empty: a scene of its own")
    resample: str = knob("none", "how the scene's pixels reach this grid: none (native grid), nearest, bilinear, cubic, average")

    def validate(self, where: str) -> None:
        """Raises `InputError` naming the first wrong field."""
        sensor = get_sensor(self.sensor)
        _require(len(self.bands) > 0, f"{where}.bands", self.bands, "at least one band name")
        for band in self.bands:
            sensor.band(band)
        _require(len(set(self.bands)) == len(self.bands), f"{where}.bands", self.bands, "free of repetitions")
        _require(self.gsd_m > 0, f"{where}.gsd_m", self.gsd_m, "a positive number of metres")
        _require(self.patch > 0 and self.pixels > 0, f"{where}.patch", self.patch, "positive, as must pixels")
        _require(self.pixels % self.patch == 0, f"{where}.pixels", self.pixels, f"a multiple of patch={self.patch}")
        _choice(f"{where}.resample", self.resample, RESAMPLINGS)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.pixels // self.patch

    @property
    def tokens(self) -> int:
        """Patches of the whole chip."""
        return self.grid * self.grid

    @property
    def patch_values(self) -> int:
        """Values in one patch: patch x patch x bands."""
        return self.patch * self.patch * len(self.bands)


@dataclasses.dataclass
class Layout:
    """The fixed shape of one kind of image set: an ordered list of slots, one compiled program."""

    name: str = knob("", "letters, digits and underscores")
    slots: tuple[Slot, ...] = knob((), "members, in order; the first one's pixel grid places the windows")
    stride_m: float = knob(0.0, "distance between neighbouring windows in metres; 0: half of the first slot's extent")
    sets_per_place: int = knob(1, "how many combinations of dates are drawn at one place")

    def validate(self, where: str) -> None:
        """Raises `InputError` naming the first wrong field."""
        _require(self.name.isidentifier(), f"{where}.name", self.name, "letters, digits and underscores, not starting with a digit")
        _require(1 <= len(self.slots) <= 6, f"{where}.slots", len(self.slots), "one to six slots")
        _require(self.stride_m >= 0, f"{where}.stride_m", self.stride_m, "zero or positive")
        _require(self.sets_per_place >= 1, f"{where}.sets_per_place", self.sets_per_place, "at least 1")
        for i, slot in enumerate(self.slots):
            slot.validate(f"{where}.slots[{i}]")
        for letter in {slot.acquisition for slot in self.slots if slot.acquisition}:
            sensors = {slot.sensor for slot in self.slots if slot.acquisition == letter}
            _require(len(sensors) == 1, f"{where}.slots", letter, "one sensor for all slots of one acquisition")

    def acquisitions(self) -> list[list[int]]:
        """Slot numbers grouped by acquisition, in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i, slot in enumerate(self.slots):
            groups.setdefault(slot.acquisition or f"#{i}", []).append(i)
        return list(groups.values())

    @property
    def tokens(self) -> int:
        """Patches of all members together."""
        return sum(slot.tokens for slot in self.slots)


@dataclasses.dataclass
class IngestConfig:
    """How scenes become image sets."""

    layouts: tuple[Layout, ...] = knob((), "the layouts to build; empty: one is drafted for each combination of sensors found")
    seed: int = knob(0, "seed of the date combinations and of the split")
    split_cell_m: float = knob(5000.0, "size of the ground cells that are dealt to the splits, metres")
    val_share: float = knob(0.0, "share of the ground cells that go to the split 'val'; 0: no such split")
    min_valid_share: float = knob(0.5, "a chip with a smaller share of valid pixels in any member is rejected")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        names = [layout.name for layout in self.layouts]
        _require(len(set(names)) == len(names), "ingest.layouts", names, "free of repeated names")
        for i, layout in enumerate(self.layouts):
            layout.validate(f"ingest.layouts[{i}]")
        _require(self.split_cell_m > 0, "ingest.split_cell_m", self.split_cell_m, "positive")
        _require(0 <= self.val_share < 1, "ingest.val_share", self.val_share, "in [0, 1)")
        _require(0 <= self.min_valid_share <= 1, "ingest.min_valid_share", self.min_valid_share, "in [0, 1]")


@dataclasses.dataclass
class DataConfig:
    """How records reach the accelerator."""

    path: str = knob("", "folder written by rsfm_jax.ingest", runtime=True)
    global_batch_size: int = knob(128, "image sets in one step, over all devices")
    layout_balance: float = knob(1.0, "a layout's share of the steps goes with (its sets) ** this: 1 proportional, 0 equal")
    read_threads: int = knob(2, "threads that read and decode records, in each process and for each layout", runtime=True)
    prefetch_batches: int = knob(2, "batches of each layout made ready ahead of the step", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        _require(self.global_batch_size >= 1, "data.global_batch_size", self.global_batch_size, "at least 1")
        _require(0 <= self.layout_balance <= 1, "data.layout_balance", self.layout_balance, "in [0, 1]")
        _require(self.read_threads >= 1, "data.read_threads", self.read_threads, "at least 1")
        _require(self.prefetch_batches >= 1, "data.prefetch_batches", self.prefetch_batches, "at least 1")


@dataclasses.dataclass
class MaskConfig:
    """Anchor-aware masking (METHODS: A2-MAE)."""

    ratio: float = knob(0.75, "fraction of every member's patches that is removed")
    anchor: str = knob("random", "which member shapes the others' masks: random, finest, coarsest")
    other_sensor: str = knob("consistent", "policy of members of another sensor than the anchor's")
    other_time: str = knob("independent", "policy of members of the anchor's sensor at another time")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        _require(0 < self.ratio < 1, "mask.ratio", self.ratio, "between 0 and 1, both excluded")
        _choice("mask.anchor", self.anchor, ANCHORS)
        for field in ("other_sensor", "other_time"):
            _choice(f"mask.{field}", getattr(self, field), POLICIES)


@dataclasses.dataclass
class ModelConfig:
    """Encoder and decoder."""

    width: int = knob(1024, "encoder width")
    depth: int = knob(24, "encoder blocks")
    heads: int = knob(16, "encoder attention heads")
    decoder_width: int = knob(512, "decoder width")
    decoder_depth: int = knob(8, "decoder blocks")
    decoder_heads: int = knob(16, "decoder attention heads")
    mlp_ratio: float = knob(4.0, "hidden width of the MLPs over the width")
    position_unit_m: float = knob(10.0, "ground distance that counts as one step in the sincos positions, metres")
    compute_dtype: str = knob("bfloat16", "type of activations and products: float32 or bfloat16; parameters stay float32")
    remat: str = knob("full", "what the backward pass recomputes: none, dots (all but matrix products), full", runtime=True)
    unroll: int = knob(1, "blocks per scan iteration; 0 unrolls all (faster on CPU, slower to compile)", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        for part, width, heads in (("", self.width, self.heads), ("decoder_", self.decoder_width, self.decoder_heads)):
            _require(width > 0 and width % 8 == 0, f"model.{part}width", width, "a positive multiple of 8")
            _require(heads > 0 and width % heads == 0, f"model.{part}heads", heads, f"a divisor of {part}width={width}")
        _require(self.depth >= 1, "model.depth", self.depth, "at least 1")
        _require(self.decoder_depth >= 1, "model.decoder_depth", self.decoder_depth, "at least 1")
        _require(self.mlp_ratio > 0, "model.mlp_ratio", self.mlp_ratio, "positive")
        _require(self.position_unit_m > 0, "model.position_unit_m", self.position_unit_m, "positive")
        _require(self.unroll >= 0, "model.unroll", self.unroll, "zero or positive")
        _choice("model.compute_dtype", self.compute_dtype, DTYPES)
        _choice("model.remat", self.remat, REMATS)


@dataclasses.dataclass
class OptimConfig:
    """AdamW with warm-up and cosine decay."""

    base_lr: float = knob(1.5e-4, "learning rate at a global batch of 256; scaled linearly with the batch")
    warmup_steps: int = knob(1000, "steps of linear warm-up from zero")
    b1: float = knob(0.9, "decay of the first moment")
    b2: float = knob(0.95, "decay of the second moment")
    weight_decay: float = knob(0.05, "decoupled weight decay; never on 1-D tensors")
    clip_norm: float = knob(1.0, "largest global norm of the gradient")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        _require(self.base_lr > 0, "optim.base_lr", self.base_lr, "positive")
        _require(self.warmup_steps >= 0, "optim.warmup_steps", self.warmup_steps, "zero or positive")
        _require(0 <= self.b1 < 1, "optim.b1", self.b1, "in [0, 1)")
        _require(0 <= self.b2 < 1, "optim.b2", self.b2, "in [0, 1)")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "zero or positive")
        _require(self.clip_norm > 0, "optim.clip_norm", self.clip_norm, "positive")


@dataclasses.dataclass
class TrainConfig:
    """The loop around the step."""

    steps: int = knob(100_000, "optimiser steps of the whole run")
    seed: int = knob(0, "seed of parameters, shuffling, layout order and masks")
    log_every: int = knob(10, "steps between lines of metrics.jsonl", runtime=True)
    checkpoint_every: int = knob(1000, "steps between checkpoints", runtime=True)
    keep_checkpoints: int = knob(3, "newest checkpoints that are kept", runtime=True)
    picture_every: int = knob(5000, "steps between reconstruction pictures; 0: none", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        for field in ("steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, field) >= 1, f"train.{field}", getattr(self, field), "at least 1")
        _require(self.picture_every >= 0, "train.picture_every", self.picture_every, "zero or positive")
        _require(0 <= self.seed < 2**31, "train.seed", self.seed, "in [0, 2**31)")


@dataclasses.dataclass
class ParallelConfig:
    """Mesh axis sizes; one of them may be -1: all devices that are left."""

    data: int = knob(-1, "replicas of the parameters; the batch is divided", runtime=True)
    fsdp: int = knob(1, "shards of parameters and optimiser state; the batch is divided too", runtime=True)
    tensor: int = knob(1, "shards of each layer's products", runtime=True)
    expert: int = knob(1, "shards of the experts", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        sizes = dataclasses.astuple(self)
        _require(all(s == -1 or s >= 1 for s in sizes), "parallel", sizes, "made of positive sizes or one -1")
        _require(sizes.count(-1) <= 1, "parallel", sizes, "free of a second -1")


@dataclasses.dataclass
class Config:
    """One experiment."""

    ingest: IngestConfig = knob(IngestConfig, "scenes to image sets")
    data: DataConfig = knob(DataConfig, "records to batches")
    mask: MaskConfig = knob(MaskConfig, "which patches are removed")
    model: ModelConfig = knob(ModelConfig, "the network")
    optim: OptimConfig = knob(OptimConfig, "the optimiser")
    train: TrainConfig = knob(TrainConfig, "the loop")
    parallel: ParallelConfig = knob(ParallelConfig, "the mesh")

    def validate(self) -> "Config":
        """Checks every section; returns itself.

        Raises:
          InputError: naming the first wrong field and what would be right.
        """
        for field in dataclasses.fields(self):
            getattr(self, field.name).validate()
        _require(
            self.optim.warmup_steps < self.train.steps,
            "optim.warmup_steps",
            self.optim.warmup_steps,
            f"less than train.steps={self.train.steps}",
        )
        return self


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts and lists, ready for JSON."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def layout_from_dict(fields: dict[str, Any]) -> Layout:
    """Builds a `Layout` from the dict that `to_dict` made of one."""
    slots = tuple(Slot(**{**slot, "bands": tuple(slot["bands"])}) for slot in fields["slots"])
    return Layout(**{**fields, "slots": slots})


def config_from_dict(fields: dict[str, Any]) -> Config:
    """Builds a `Config` from the dict that `to_dict` made of one.

    Raises:
      InputError: if it has fields that this version does not know.
    """
    config = Config()
    for section in dataclasses.fields(Config):
        values = dict(fields.get(section.name, {}))
        if section.name == "ingest":
            values["layouts"] = tuple(layout_from_dict(layout) for layout in values.get("layouts", ()))
        part = getattr(config, section.name)
        known = {field.name for field in dataclasses.fields(part)}
        if set(values) - known:
            raise InputError(f"config.{section.name} holds fields this version does not know: {sorted(set(values) - known)}")
        setattr(config, section.name, type(part)(**values))
    return config


def differing_fields(old: Config, new: Config) -> list[str]:
    """Fields that say what a run computes and differ between two configs, as ``"mask.ratio: 0.75 -> 0.6"``."""
    changes = []
    for section in dataclasses.fields(Config):
        if section.name == "ingest":
            continue  # the dataset's own digest says what was ingested
        for field in dataclasses.fields(getattr(new, section.name)):
            before, after = (getattr(getattr(config, section.name), field.name) for config in (old, new))
            if before != after and not field.metadata["runtime"]:
                changes.append(f"{section.name}.{field.name}: {before!r} -> {after!r}")
    return changes
