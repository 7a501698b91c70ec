"""Fine-tuning of any ViT with ``blocks``: frozen, by low-rank updates, or in full with a learning rate per layer.

    groups = prepare(model, "lora", lr=1e-3, head=head)
    optimizer = torch.optim.AdamW(groups)
    ...
    merge_lora(model)    # plain layers and names again: strict loading and export work

Legend: r rank, L blocks.
"""

from collections.abc import Iterable, Sequence
import math
from typing import Any, Literal

import torch
from torch import nn
import torch.nn.functional as F

STEM = ("patch_embed", "encodings", "cls_token", "pos_embed", "mask_token", "reg_token", "register_tokens")
UNDECAYED = ("pos_embed", "position_table", "cls_token", "mask_token", "reg_token", "register_tokens", "dist_token", "unknown", "bias")
NamedParameters = Iterable[tuple[str, nn.Parameter]]


class LoRALinear(nn.Linear):
    """A linear layer W x + b with a low-rank update, (W + alpha / r B A) x + b, whose W and b keep their names in the state dict.

    A is drawn as ``nn.Linear`` draws weights, B is zero: at the start nothing changes.

    Source: LoRA, https://arxiv.org/abs/2106.09685, section 4.1; A from a uniform, not a normal distribution, as in the authors' code.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        """Takes over a layer's own parameters, frozen, and adds A (r, in) and B (out, r)."""
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias, self.scale = linear.weight, linear.bias, alpha / rank
        self.requires_grad_(False)
        self.lora_A = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return super().forward(input) + self.scale * F.linear(F.linear(input, self.lora_A), self.lora_B)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer of the same function; it holds this layer's own W, changed in place, and b."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        self.weight += (self.scale * (self.lora_B.double() @ self.lora_A.double())).to(self.weight.dtype)
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)


def freeze(model: nn.Module) -> None:
    """Stops all training of a module: no parameter has a gradient, and it is put in evaluation mode.

    A later ``train()`` of it, or of a module that holds it, brings dropout back, but no gradient.
    """
    model.requires_grad_(False)
    model.eval()


def add_lora(model: nn.Module, rank: int = 8, alpha: float = 16.0, targets: Sequence[str] = ("qkv", "proj")) -> list[str]:
    """Gives the linear layers of the blocks low-rank updates, in place; everything else of the model is frozen.

    Only layers inside ``blocks`` count: a "proj" of the encodings is left alone. The fused qkv gets one update of rank r for all three.

    Args:
      model: A ViT with ``blocks``, or a module that holds one.
      rank: r.
      alpha: The update is scaled by alpha / r.
      targets: Names of layers: "qkv", "proj", "fc1", "fc2" in the exported encoder.

    Returns:
      The full names of the adapted layers.

    Raises:
      ValueError: no such layer, one that is not linear or is adapted already, or a rank that does not fit; the model is unchanged.
    """
    prefix, _ = _blocks(model)
    found = {name: layer for name, layer in model.named_modules() if name.startswith(f"{prefix}blocks.") and name.split(".")[-1] in targets}
    missing = [target for target in targets if not any(name.endswith(f".{target}") for name in found)]
    if missing or not found:
        raise ValueError(f"targets: no layer named {', '.join(map(repr, missing)) or 'at all'} in {prefix}blocks")
    for name, layer in found.items():
        if not isinstance(layer, nn.Linear) or isinstance(layer, LoRALinear):
            raise ValueError(f"{name} is a {type(layer).__name__}; expected a plain nn.Linear")
        if not 1 <= rank <= min(layer.weight.shape):
            raise ValueError(f"rank is {rank}; expected 1 to {min(layer.weight.shape)}, the smaller side of {name}")
    model.requires_grad_(False)
    for name, layer in found.items():
        assert isinstance(layer, nn.Linear)
        _replace(model, name, LoRALinear(layer, rank, alpha))
    return list(found)


def merge_lora(model: nn.Module) -> list[str]:
    """Folds the updates of `add_lora` into the weights, in place; modules and names are those of before, all still frozen.

    Args:
      model: A model with such layers.

    Returns:
      The full names of the merged layers.

    Raises:
      ValueError: there are none.
    """
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}
    if not found:
        raise ValueError("the model has no layer with a low-rank update; was it merged already?")
    for name, layer in found.items():
        _replace(model, name, layer.merged())
    return list(found)


def layer_decay_groups(model: nn.Module, lr: float, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups whose learning rate falls from the head to the patches: lr * decay ** (L + 1 - layer).

    Layer 0 is what comes before the blocks (patch and position embeddings, other encodings, class token), i + 1 is block i, L + 1
    everything else: final norm, head. Biases, tokens, position tables and all other parameters with one dim have no weight decay.

    Args:
      model: A ViT with ``blocks``, or a module that holds one and a head.
      lr: Learning rate of the head.
      weight_decay: Of matrices.
      decay: Factor per layer, above 0; 1 for one rate, 0.65 to 0.85 are usual.

    Returns:
      Groups for a torch optimizer, each with "name", "params", "lr" and "weight_decay"; each trainable parameter is in exactly one.

    Raises:
      ValueError: no or several ``blocks``, a decay out of range, or nothing to train.

    Source: BEiT, https://arxiv.org/abs/2106.08254, as in MAE's ``util/lr_decay.py``.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay is {decay}; expected more than 0 and at most 1")
    prefix, depth = _blocks(model)
    layers: dict[int, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layers.setdefault(_layer_id(name, prefix, depth), []).append((name, parameter))
    if not layers:
        raise ValueError("the model has no parameter to train; call requires_grad_(True) on what shall be trained")
    return [group for i in sorted(layers) for group in _decay_groups(f"layer {i}", layers[i], lr * decay ** (depth + 1 - i), weight_decay)]


def prepare(
    model: nn.Module,
    mode: Literal["frozen", "lora", "full"],
    lr: float,
    head: nn.Module | None = None,
    weight_decay: float = 0.05,
    decay: float = 0.75,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = ("qkv", "proj"),
) -> list[dict[str, Any]]:
    """Sets a pretrained encoder up for one way of fine-tuning.

    Args:
      model: A ViT with ``blocks``, without the head.
      mode: "frozen": `freeze`, only the head trains; "lora": `add_lora`, its updates and the head train; "full": `layer_decay_groups` of
        the encoder, and the head; parameters that had no gradient (fixed positions) keep none.
      lr: Learning rate of the head and of updates.
      head: What is trained beside the encoder, at the full rate.
      weight_decay: Of matrices.
      decay: Factor of the rate per layer, for "full".
      rank: For "lora".
      alpha: For "lora".
      targets: For "lora".

    Returns:
      Groups for a torch optimizer; each trainable parameter of encoder and head is in exactly one.

    Raises:
      ValueError: an unknown mode, nothing to train, a head that is part of the encoder, or what the functions named above refuse.
    """
    inside = {id(p) for p in model.parameters()}
    if head is not None and any(id(p) in inside for p in head.parameters()):
        raise ValueError("head is a part of model, whose freezing would freeze it; give the encoder alone as model")
    if mode == "frozen":
        freeze(model)
        groups = []
    elif mode == "lora":
        add_lora(model, rank, alpha, targets)
        groups = _decay_groups("lora", [(name, p) for name, p in model.named_parameters() if p.requires_grad], lr, weight_decay)
    elif mode == "full":
        groups = layer_decay_groups(model, lr, weight_decay, decay)
    else:
        raise ValueError(f"mode is {mode!r}; expected 'frozen', 'lora' or 'full'")
    if head is not None:
        groups += _decay_groups("head", [(name, p) for name, p in head.named_parameters() if p.requires_grad], lr, weight_decay)
    if not groups:
        raise ValueError(f"mode {mode!r} leaves nothing to train; give a head with parameters")
    return groups


def _blocks(model: nn.Module) -> tuple[str, int]:
    """Where the blocks are, "" or "path.to.vit.", and how many."""
    named = [(name, module) for name, module in model.named_modules() if name.split(".")[-1] == "blocks"]
    found = [(name, len(module)) for name, module in named if isinstance(module, (nn.ModuleList, nn.Sequential))]
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise ValueError(f"expected one list of modules named 'blocks' in {type(model).__name__}, found {names}")
    name, depth = found[0]
    return name.removesuffix("blocks"), depth


def _layer_id(name: str, prefix: str, depth: int) -> int:
    parts = name.removeprefix(prefix).split(".") if name.startswith(prefix) else [""]
    if parts[0] == "blocks":
        return int(parts[1]) + 1
    return 0 if parts[0] in STEM else depth + 1


def _decay_groups(name: str, parameters: NamedParameters, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """One group with weight decay and one without, those that are not empty."""
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for path, parameter in parameters:
        split[parameter.ndim > 1 and path.split(".")[-1] not in UNDECAYED].append(parameter)
    groups = [
        {"name": name, "params": split[True], "lr": lr, "weight_decay": weight_decay},
        {"name": f"{name}, no decay", "params": split[False], "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
