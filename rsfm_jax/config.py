"""Every knob of an experiment, typed, documented in one line and checked before anything starts.

A config file's ``get_config()`` returns a `Config`; `--config.section.field=value` overrides one field. Defaults live here and
nowhere else. Fields marked ``runtime`` say how a run executes, not what it computes, so they may change when a run is continued.
"""

import dataclasses
from typing import Any

from rsfm_jax.errors import InputError
from rsfm_jax.knobs import choice, knob, require
from rsfm_jax.layouts import Layout, layout_from_dict, parse_groups
from rsfm_jax.mask_rules import parse_table

ANCHORS = ("random", "finest", "coarsest")
TOKENIZERS = ("groups", "random3", "wavelength")
POSITIONS = ("metres", "gsd", "index", "3d", "learned", "a2mae_released")
GEO = ("none", "a2mae", "a2mae_released", "prithvi", "cartesian")
TIMES = ("none", "season", "satmae", "prithvi")
IDENTITIES = ("none", "slot", "satmae")
DTYPES = ("float32", "bfloat16")
REMATS = ("none", "dots", "full")
ATTENTIONS = ("plain", "cudnn")
FLIPS = ("none", "horizontal", "dihedral")


@dataclasses.dataclass
class IngestConfig:
    """How scenes become image sets."""

    layouts: tuple[Layout, ...] = knob((), "the layouts to build; empty: one is drafted for each combination of sensors found")
    seed: int = knob(0, "seed of the date combinations and of the split")
    split_cell_m: float = knob(5000.0, "size of the ground cells that are dealt to the splits, metres")
    val_share: float = knob(0.0, "share of the ground cells that go to the split 'val'; 0: no such split")
    min_valid_share: float = knob(0.5, "a chip with a smaller share of valid pixels in any member is rejected")
    shard_mib: int = knob(256, "pixels of one record file, before compression, in MiB; a worker holds so much")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        names = [layout.name for layout in self.layouts]
        require(len(set(names)) == len(names), "ingest.layouts", names, "free of repeated names")
        for i, layout in enumerate(self.layouts):
            layout.validate(f"ingest.layouts[{i}]")
        require(self.split_cell_m > 0, "ingest.split_cell_m", self.split_cell_m, "positive")
        require(0 <= self.val_share < 1, "ingest.val_share", self.val_share, "in [0, 1)")
        require(0 <= self.min_valid_share <= 1, "ingest.min_valid_share", self.min_valid_share, "in [0, 1]")
        require(self.shard_mib >= 1, "ingest.shard_mib", self.shard_mib, "at least 1")


@dataclasses.dataclass
class CurateConfig:
    """Which image sets are kept of a dataset (docs/curation.md)."""

    seed: int = knob(0, "seed of the draws within clusters")
    min_valid_share: float = knob(0.5, "a set with a band that has a smaller share of valid pixels is rejected")
    max_saturated_share: float = knob(0.2, "a set with a larger share of saturated pixels in any band is rejected")
    min_contrast: float = knob(0.01, "rejected: all bands of a member vary less than this share of the dataset's standard deviation")
    spectral_weight: float = knob(1.0, "weight of the band statistics and indices in the distance of two sets")
    texture_weight: float = knob(0.5, "weight of gradients and entropies")
    metadata_weight: float = knob(0.5, "weight of date, sun, view, clouds and share of valid pixels")
    clip_z: float = knob(5.0, "robust z-scores are cut to this many deviations on either side; how many is reported")
    sets_per_cluster: float = knob(2.0, "kept sets for each cluster; with the target it says how many clusters are looked for")
    quota_exponent: float = knob(0.5, "a cluster's quota goes with (its sets) ** this: 1 proportional, 0 equal")
    block_size: int = knob(512, "most sets of a block that is clustered at once, below the last level")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(0 <= self.seed < 2**31, "curate.seed", self.seed, "in [0, 2**31)")
        require(0 < self.min_valid_share <= 1, "curate.min_valid_share", self.min_valid_share, "in (0, 1]")
        require(0 <= self.max_saturated_share <= 1, "curate.max_saturated_share", self.max_saturated_share, "in [0, 1]")
        require(self.min_contrast >= 0, "curate.min_contrast", self.min_contrast, "zero or positive")
        weights = {name: getattr(self, f"{name}_weight") for name in ("spectral", "texture", "metadata")}
        for name, weight in weights.items():
            require(weight >= 0, f"curate.{name}_weight", weight, "zero or positive")
        require(any(weights.values()), "curate.spectral_weight", self.spectral_weight, "positive, or another weight")
        require(self.clip_z > 0, "curate.clip_z", self.clip_z, "positive")
        require(self.sets_per_cluster >= 1, "curate.sets_per_cluster", self.sets_per_cluster, "at least 1")
        require(0 <= self.quota_exponent <= 1, "curate.quota_exponent", self.quota_exponent, "in [0, 1]")
        require(self.block_size >= 8, "curate.block_size", self.block_size, "at least 8")


@dataclasses.dataclass
class DataConfig:
    """How records reach the accelerator."""

    path: str = knob("", "folder written by rsfm_jax.ingest", runtime=True)
    curation: str = knob("", "folder written by rsfm_jax.curate: only the sets it kept are read; empty: all", runtime=True)
    global_batch_size: int = knob(128, "image sets in one step, over all devices")
    layout_balance: float = knob(1.0, "a layout's share of the steps goes with (its sets) ** this: 1 proportional, 0 equal")
    read_processes: int = knob(0, "processes that make batches, for each layout; 0: threads of the training process do", runtime=True)
    read_threads: int = knob(2, "threads that make a batch each, for each layout, in each reading process", runtime=True)
    prefetch_batches: int = knob(
        2, "batches of each layout made ahead of the step, in each reading process; never fewer than threads", runtime=True
    )

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(self.global_batch_size >= 1, "data.global_batch_size", self.global_batch_size, "at least 1")
        require(0 <= self.layout_balance <= 1, "data.layout_balance", self.layout_balance, "in [0, 1]")
        require(self.read_processes >= 0, "data.read_processes", self.read_processes, "zero or positive")
        require(self.read_threads >= 1, "data.read_threads", self.read_threads, "at least 1")
        require(self.prefetch_batches >= 1, "data.prefetch_batches", self.prefetch_batches, "at least 1")


@dataclasses.dataclass
class AugmentConfig:
    """Random crops and flips of whole image sets (rsfm_jax/objectives/augment.py)."""

    crop_min_area: float = knob(1.0, "smallest share of the ground that a random crop keeps, resampled to the chips' pixels; 1: no crop")
    crop_max_aspect: float = knob(4 / 3, "a crop's sides differ by at most this factor, so the GSD along them does; 1: not at all")
    flip: str = knob("none", "mirror sets at random: none, horizontal, dihedral (the eight turns of a square)")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(0 < self.crop_min_area <= 1, "augment.crop_min_area", self.crop_min_area, "in (0, 1]")
        require(self.crop_max_aspect >= 1, "augment.crop_max_aspect", self.crop_max_aspect, "at least 1")
        choice("augment.flip", self.flip, FLIPS)


@dataclasses.dataclass
class MaskConfig:
    """Anchor-aware masking (rsfm_jax/objectives/masking.py)."""

    ratio: float = knob(0.75, "fraction of every member's patches that is removed")
    anchor: str = knob("random", "which member shapes the others' masks: random, finest, coarsest")
    table: tuple[str, ...] = knob(
        ("acquisition=same: consistent", "sensor=same: independent", "any: consistent"),
        "a member's policy by its relation to the anchor, first line that holds (rsfm_jax/mask_rules.py)",
    )

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(0 < self.ratio < 1, "mask.ratio", self.ratio, "between 0 and 1, both excluded")
        choice("mask.anchor", self.anchor, ANCHORS)
        parse_table(self.table)


@dataclasses.dataclass
class TokenizerConfig:
    """How the bands of a patch become tokens."""

    kind: str = knob("groups", "groups (a linear embedding for each group of bands), random3 (A2-MAE's released), wavelength (DOFA)")
    groups: tuple[str, ...] = knob((), "bands with a token each, 'sensor: B02 B03 | B05' for each sensor to split; empty: all of a slot")
    band_dropout: float = knob(0.0, "probability that the encoder is not shown a band of a member; one always stays, all are predicted")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        choice("tokenizer.kind", self.kind, TOKENIZERS)
        require(0 <= self.band_dropout < 1, "tokenizer.band_dropout", self.band_dropout, "in [0, 1)")
        require(not self.groups or self.kind == "groups", "tokenizer.groups", self.groups, f"empty with tokenizer.kind={self.kind!r}")
        parse_groups(self.groups)


@dataclasses.dataclass
class EncodingConfig:
    """What a token is told of where, when and by what it was seen."""

    positions: str = knob(
        "metres", "of patches: metres (from the set's centre), gsd (index x GSD), index (MAE), 3d, learned, a2mae_released"
    )
    position_unit_m: float = knob(10.0, "ground distance that counts as one step in the positions 'metres' and 'gsd', metres")
    geo: str = knob("a2mae", "location: none, a2mae (GeoSOT bits), a2mae_released (with its positions), prithvi, cartesian")
    time: str = knob("season", "dates: none, season (year and harmonics of the day), satmae, prithvi")
    identity: str = knob("slot", "sensor and bands: none, slot (learned for each kind), satmae (a code of the group's number)")
    gsd: bool = knob(True, "a code of each member's GSD")
    metadata_dropout: float = knob(0.1, "probability that a set's location, and each member's date, is hidden in training")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        choice("encoding.positions", self.positions, POSITIONS)
        choice("encoding.geo", self.geo, GEO)
        choice("encoding.time", self.time, TIMES)
        choice("encoding.identity", self.identity, IDENTITIES)
        require(self.position_unit_m > 0, "encoding.position_unit_m", self.position_unit_m, "positive")
        require(0 <= self.metadata_dropout < 1, "encoding.metadata_dropout", self.metadata_dropout, "in [0, 1)")
        released = "a2mae_released"
        require(
            (self.geo == released) == (self.positions == released), "encoding.geo", self.geo, f"{released!r} with encoding.positions only"
        )


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
    cls_token: bool = knob(False, "a learned token beside the patches, as in MAE")
    joint: bool = knob(True, "acquisitions of a set attend to each other; False encodes and decodes each alone")
    compute_dtype: str = knob("bfloat16", "type of activations and products: float32 or bfloat16; parameters stay float32")
    remat: str = knob("full", "what the backward pass recomputes: none, dots (all but matrix products), full", runtime=True)
    attention: str = knob("plain", "what computes attention: plain (any device), cudnn (flash, NVIDIA GPUs, bfloat16)", runtime=True)
    unroll: int = knob(1, "blocks per scan iteration; 0 unrolls all (faster on CPU, slower to compile)", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        for part, width, heads in (("", self.width, self.heads), ("decoder_", self.decoder_width, self.decoder_heads)):
            require(width > 0 and width % 8 == 0, f"model.{part}width", width, "a positive multiple of 8")
            require(heads > 0 and width % heads == 0, f"model.{part}heads", heads, f"a divisor of {part}width={width}")
        require(self.depth >= 1, "model.depth", self.depth, "at least 1")
        require(self.decoder_depth >= 1, "model.decoder_depth", self.decoder_depth, "at least 1")
        require(self.mlp_ratio > 0, "model.mlp_ratio", self.mlp_ratio, "positive")
        require(self.unroll >= 0, "model.unroll", self.unroll, "zero or positive")
        require(
            self.joint or not self.cls_token, "model.cls_token", self.cls_token, "False with model.joint=False: it would join the members"
        )
        choice("model.compute_dtype", self.compute_dtype, DTYPES)
        choice("model.remat", self.remat, REMATS)
        choice("model.attention", self.attention, ATTENTIONS)
        if self.attention == "cudnn":
            fits = all(size % 8 == 0 and size <= 128 for size in (self.width // self.heads, self.decoder_width // self.decoder_heads))
            wants = "'plain', or model.compute_dtype='bfloat16' and heads of 8, 16, ... 128 values"
            require(fits and self.compute_dtype == "bfloat16", "model.attention", self.attention, wants)


@dataclasses.dataclass
class LossConfig:
    """What the hidden patches are compared with (rsfm_jax/objectives/reconstruction.py)."""

    norm_pix: bool = knob(True, "the target is each patch's values less its mean, over its standard deviation; False: the values")

    def validate(self) -> None:
        """Nothing to check."""


@dataclasses.dataclass
class OptimConfig:
    """AdamW with warm-up and cosine decay."""

    base_lr: float = knob(1.5e-4, "learning rate at a global batch of 256; scaled linearly with the batch")
    warmup_steps: int = knob(1000, "steps of linear warm-up from zero")
    b1: float = knob(0.9, "decay of the first moment")
    b2: float = knob(0.95, "decay of the second moment")
    weight_decay: float = knob(0.05, "decoupled weight decay; never on biases and norms")
    clip_norm: float = knob(1.0, "largest global norm of the gradient; 0: no limit")

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(self.base_lr > 0, "optim.base_lr", self.base_lr, "positive")
        require(self.warmup_steps >= 0, "optim.warmup_steps", self.warmup_steps, "zero or positive")
        require(0 <= self.b1 < 1, "optim.b1", self.b1, "in [0, 1)")
        require(0 <= self.b2 < 1, "optim.b2", self.b2, "in [0, 1)")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "zero or positive")
        require(self.clip_norm >= 0, "optim.clip_norm", self.clip_norm, "zero or positive")


@dataclasses.dataclass
class InitConfig:
    """Where the parameters start."""

    torch: str = knob("", "weights to start from: exported folder, facebookresearch/mae, timm or transformers file; empty: random")

    def validate(self) -> None:
        """Nothing to check before the file is read."""


@dataclasses.dataclass
class TrainConfig:
    """The loop around the step."""

    steps: int = knob(100_000, "optimiser steps of the whole run")
    seed: int = knob(0, "seed of parameters, shuffling, layout order, crops and masks")
    microbatches: int = knob(1, "parts of a batch that are worked out one after the other, to save memory", runtime=True)
    log_every: int = knob(10, "steps between lines of metrics.jsonl", runtime=True)
    checkpoint_every: int = knob(1000, "steps between checkpoints", runtime=True)
    keep_checkpoints: int = knob(3, "newest checkpoints that are kept", runtime=True)
    picture_every: int = knob(5000, "steps between reconstruction pictures; 0: none", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        for field in ("steps", "microbatches", "log_every", "checkpoint_every", "keep_checkpoints"):
            require(getattr(self, field) >= 1, f"train.{field}", getattr(self, field), "at least 1")
        require(self.picture_every >= 0, "train.picture_every", self.picture_every, "zero or positive")
        require(0 <= self.seed < 2**31, "train.seed", self.seed, "in [0, 2**31)")


@dataclasses.dataclass
class ProbeConfig:
    """Probes of the encoder during training (rsfm_jax/train/probe.py)."""

    path: str = knob("", "labelled chips, .npz (rsfm_jax/train/probe_set.py); empty: no probe", runtime=True)
    every: int = knob(0, "steps between probes; 0: as many as keep them at 1 % of the operations, at least 100", runtime=True)

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        require(self.every >= 0, "probe.every", self.every, "zero or positive")


@dataclasses.dataclass
class ParallelConfig:
    """Mesh axis sizes; one of them may be -1: all devices that are left."""

    data: int = knob(-1, "replicas of the parameters; the batch is divided", runtime=True)
    fsdp: int = knob(1, "shards of parameters and optimiser state; the batch is divided too", runtime=True)
    tensor: int = knob(1, "shards of each layer's products", runtime=True)
    expert: int = knob(1, "shards of the experts", runtime=True)
    max_whole_share: float = knob(
        0.05, "with fsdp or tensor above 1: largest share of the parameters that all devices hold whole", runtime=True
    )

    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes of the axes, in the mesh's order."""
        return self.data, self.fsdp, self.tensor, self.expert

    def validate(self) -> None:
        """Raises `InputError` naming the first wrong field."""
        sizes = self.sizes()
        require(all(s == -1 or s >= 1 for s in sizes), "parallel", sizes, "made of positive sizes or one -1")
        require(sizes.count(-1) <= 1, "parallel", sizes, "free of a second -1")
        require(0 <= self.max_whole_share <= 1, "parallel.max_whole_share", self.max_whole_share, "in [0, 1]")


@dataclasses.dataclass
class Config:
    """One experiment."""

    ingest: IngestConfig = knob(IngestConfig, "scenes to image sets")
    curate: CurateConfig = knob(CurateConfig, "image sets to the ones worth keeping")
    data: DataConfig = knob(DataConfig, "records to batches")
    augment: AugmentConfig = knob(AugmentConfig, "crops and flips of image sets")
    mask: MaskConfig = knob(MaskConfig, "which patches are removed")
    tokenizer: TokenizerConfig = knob(TokenizerConfig, "bands to tokens")
    encoding: EncodingConfig = knob(EncodingConfig, "where, when and by what")
    model: ModelConfig = knob(ModelConfig, "the network")
    loss: LossConfig = knob(LossConfig, "what is predicted")
    init: InitConfig = knob(InitConfig, "where the parameters start")
    optim: OptimConfig = knob(OptimConfig, "the optimiser")
    train: TrainConfig = knob(TrainConfig, "the loop")
    probe: ProbeConfig = knob(ProbeConfig, "a labelled set beside training")
    parallel: ParallelConfig = knob(ParallelConfig, "the mesh")

    def validate(self) -> "Config":
        """Checks every section; returns itself.

        Raises:
          InputError: naming the first wrong field and what would be right.
        """
        for field in dataclasses.fields(self):
            getattr(self, field.name).validate()
        step = 32 if "satmae" in (self.encoding.time, self.encoding.identity) else 16 if self.encoding.positions == "3d" else 8
        for part, width in (("", self.model.width), ("decoder_", self.model.decoder_width)):
            require(width % step == 0, f"model.{part}width", width, f"a multiple of {step} for its encodings")
        require(
            self.optim.warmup_steps < self.train.steps,
            "optim.warmup_steps",
            self.optim.warmup_steps,
            f"less than train.steps={self.train.steps}",
        )
        return self


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts and lists, ready for JSON; rare knobs are in it where they differ from their defaults."""
    return _plain(config)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        named = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {field.name: _plain(item) for field, item in named.items() if not (field.metadata.get("rare") and item == field.default)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


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
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        if set(values) - known:
            raise InputError(f"config.{section.name} holds fields this version does not know: {sorted(set(values) - known)}")
        setattr(config, section.name, type(part)(**values))
    return config


def differing_fields(old: Config, new: Config) -> list[str]:
    """Fields that say what a run computes and differ between two configs, as ``"mask.ratio: 0.75 -> 0.6"``."""
    changes = []
    for section in dataclasses.fields(Config):
        if section.name in ("ingest", "curate"):
            continue  # the digests of the dataset and of its curation say what was ingested and kept
        for field in dataclasses.fields(getattr(new, section.name)):
            before, after = (getattr(getattr(config, section.name), field.name) for config in (old, new))
            if before != after and not field.metadata["runtime"]:
                changes.append(f"{section.name}.{field.name}: {before!r} -> {after!r}")
    return changes
