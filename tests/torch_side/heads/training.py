"""What the tests of trainable heads share: random features, where gradients arrive, learning a tiny problem by heart."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

torch.set_num_threads(1)


def features(layers: int, B: int, D: int, h: int, w: int, seed: int = 0) -> list[torch.Tensor]:
    """Random layers, each (B, D, h, w)."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(B, D, h, w, generator=random) for _ in range(layers)]


def without_gradient(module: nn.Module, run: Callable[[], torch.Tensor]) -> list[str]:
    """Names of the parameters that a random projection of the result does not reach."""
    module.zero_grad()
    y = run()
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(5))).sum().backward()
    return [name for name, p in module.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]


def overfit(parameters: Iterable[nn.Parameter] | list[dict[str, Any]], loss: Callable[[], torch.Tensor], steps: int, lr: float) -> float:
    """The loss after ``steps`` of Adam."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return float(loss())
