"""Classification and regression on pooled features: a linear head and the weighted nearest neighbours, which train nothing.

Legend: N examples, D encoder width, K classes or outputs.
"""

import torch
from torch import nn
import torch.nn.functional as F


class PooledLinear(nn.Module):
    """A linear layer on pooled features, (B, D) to (B, K): logits or regressed values, as the loss says.

    With ``standardise=True`` features are first centred and divided by the deviations of the training features, which are kept with the
    weights; linear probes are sensitive to the scale of features, which differs between encoders and layers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int, outputs: int, standardise: bool = False) -> None:
        """Builds the layer.

        Args:
          width: D.
          outputs: K.
          standardise: Standardise features; `fit_statistics` must come before the first use.
        """
        super().__init__()
        self.width, self.standardise = width, standardise
        self.linear = nn.Linear(width, outputs)
        if standardise:
            self.register_buffer("mean", torch.full((width,), torch.nan))
            self.register_buffer("std", torch.full((width,), torch.nan))

    @torch.no_grad()
    def fit_statistics(self, X: torch.Tensor) -> int:
        """Takes mean and standard deviation (of the population) from training features.

        Args:
          X: (N, D), of the training split only.

        Returns:
          How many features are constant; their deviation is set to 1, so they become 0.

        Raises:
          ValueError: no standardising head, another width, fewer than two rows, or values that are not finite.
        """
        if not self.standardise:
            raise ValueError("this head was made with standardise=False")
        if X.ndim != 2 or X.shape[1] != self.width or len(X) < 2 or not bool(torch.isfinite(X).all()):
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (N, {self.width}) with N > 1, all values finite")
        std, mean = torch.std_mean(X.double(), dim=0, correction=0)
        constant = X.eq(X[0]).all(dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.masked_fill(constant, 1.0))
        return int(constant.sum())

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """(B, D) to (B, K).

        Raises:
          ValueError: another shape, or statistics that were never fitted.
        """
        if X.ndim != 2 or X.shape[1] != self.width:
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (B, {self.width}) pooled features")
        if self.standardise:
            if bool(self.std[0].isnan()):
                raise ValueError("standardise=True, but there are no statistics; call fit_statistics on the training features first")
            X = (X - self.mean) / self.std
        return self.linear(X)


def _normalised(name: str, X: torch.Tensor) -> torch.Tensor:
    if X.ndim != 2 or not len(X):
        raise ValueError(f"{name} has shape {tuple(X.shape)}; expected (N, D) with N > 0")
    lengths = X.norm(dim=1)
    wrong = ~(torch.isfinite(lengths) & (lengths > 0))
    if bool(wrong.any()):
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {len(X)} rows are zero or not finite and have no direction; first: {int(wrong.nonzero()[0])}"
        )
    return F.normalize(X, dim=1, eps=0.0)


@torch.no_grad()
def knn_predict(
    train_X: torch.Tensor,
    train_y: torch.Tensor,
    test_X: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
    chunk: int = 4096,
) -> torch.Tensor:
    """Votes of the k nearest training examples by cosine similarity s, each weighing exp(s / temperature).

    Memory beside the inputs is that of a copy of them, of some ``chunk * (chunk + k)`` similarities and labels, and of the result. Among
    equally near examples at the k-th place it is not defined which one votes.

    Args:
      train_X: (N, D) float.
      train_y: (N,) integer classes from 0.
      test_X: (M, D) float, on the device and of the dtype of ``train_X``.
      k: Neighbours.
      temperature: Small ones let the nearest decide.
      classes: K; None for the largest of ``train_y`` plus 1.
      chunk: Rows of training and of test examples compared at a time.

    Returns:
      (M, K) shares of the votes, each row summing to 1; ``argmax(dim=1)`` is the prediction.

    Raises:
      ValueError: shapes or classes that do not fit, k out of range, or a feature that is zero or not finite.

    Source: DINO, https://arxiv.org/abs/2104.14294, appendix F (k = 20, temperature 0.07), after https://arxiv.org/abs/1805.01978.
    The votes are divided by their sum, which changes no prediction and can't overflow.
    """
    train, test = _normalised("train_X", train_X), _normalised("test_X", test_X)
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train_X has {train.shape[1]} features, test_X {test.shape[1]}")
    if train_y.shape != (len(train),) or train_y.is_floating_point():
        raise ValueError(f"train_y is {train_y.dtype} of shape {tuple(train_y.shape)}; expected integers ({len(train)},)")
    K = int(train_y.max()) + 1 if classes is None else classes
    if int(train_y.min()) < 0 or int(train_y.max()) >= K:
        raise ValueError(f"train_y goes from {int(train_y.min())} to {int(train_y.max())}; expected 0 to {K - 1}")
    if not 1 <= k <= len(train) or not temperature > 0 or chunk < 1:
        raise ValueError(f"k is {k}, temperature {temperature}, chunk {chunk}; expected k from 1 to {len(train)} and the others above 0")
    votes = []
    for rows in test.split(chunk):
        near, labels = rows.new_empty(len(rows), 0), train_y.new_empty(len(rows), 0)
        for others, y in zip(train.split(chunk), train_y.split(chunk), strict=True):
            near = torch.cat([near, rows @ others.T], dim=1)
            labels = torch.cat([labels, y.expand(len(rows), -1)], dim=1)
            near, order = near.topk(min(k, near.shape[1]), dim=1)
            labels = labels.gather(1, order)
        weights = (near / temperature).softmax(dim=1)
        votes.append(weights.new_zeros(len(rows), K).scatter_add_(1, labels.long(), weights))
    return torch.cat(votes)
