"""A fitted linear probe as a PyTorch head: from patch tokens to the logits of classes at pixels.

Legend: B windows, D width, K classes, h w patches, H W pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from rsfm_jax.evaluate.probing.probes import Fitted


class LinearHead(nn.Module):
    """Standardisation and logistic regression of each patch, in float64 as scikit-learn computes it; every pixel has its patch's logits.

    The softmax of the logits are the probe's probabilities. A class that it was not trained on has the logit minus infinity.
    """

    def __init__(self, fitted: Fitted, patch: int) -> None:
        """Takes the weights of a probe.

        Args:
          fitted: The probe `linear` for classification, fitted to features of width D.
          patch: Side of a patch, in pixels.

        Raises:
          ValueError: It is another probe.
        """
        super().__init__()
        if (fitted.name, fitted.kind) != ("linear", "classification"):
            raise ValueError(f"the probe is {fitted.name} for {fitted.kind}; expected linear for classification")
        scaler, regression = fitted.model[0], fitted.model[-1]
        weight, bias = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # one logit, of the second class
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        all_weights, all_biases = np.zeros((fitted.classes, weight.shape[1])), np.full(fitted.classes, -np.inf)
        all_weights[regression.classes_], all_biases[regression.classes_] = weight, bias
        self.patch = patch
        arrays: dict[str, Any] = {"mean": scaler.mean_, "scale": scaler.scale_, "weight": all_weights, "bias": all_biases}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array, np.float64)))

    def extra_repr(self) -> str:
        """The patch, which no buffer tells."""
        return f"patch={self.patch}"

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Tokens (B, D, h, w) to logits float64 (B, K, H, W)."""
        tokens = (grid.movedim(1, -1).double() - self.get_buffer("mean")) / self.get_buffer("scale")
        logits = nn.functional.linear(tokens, self.get_buffer("weight"), self.get_buffer("bias")).movedim(-1, 1)
        return logits.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3)
