"""Where arrays lie on the mesh, said in logical axis names.

The model says what the axes of its arrays are; whoever knows the mesh gives them a meaning while the model is traced. Without one, as on a
single device, nothing is said and nothing changes. Left to itself the compiler may gather activations over the shards of the parameters
instead of the parameters, and then nothing fits.
"""

from collections.abc import Iterator
import contextlib
import contextvars
from typing import Protocol, TypeVar, runtime_checkable

import jax

T = TypeVar("T")


@runtime_checkable
class Placement(Protocol):
    """What a mesh makes of logical axes."""

    def rows(self, x: jax.Array) -> jax.Array:
        """Lays an array out whose first dim is the batch, or batch x tokens."""
        ...

    def weight(self, w: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
        """Gathers a parameter for the product it is used in; its gradient is scattered again."""
        ...


_CURRENT: contextvars.ContextVar[Placement | None] = contextvars.ContextVar("placement", default=None)


@contextlib.contextmanager
def placed_by(placement: Placement | None) -> Iterator[None]:
    """Gives logical axes a meaning for what is traced inside."""
    token = _CURRENT.set(placement)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def place_rows(tree: T) -> T:
    """Divides arrays along their first dim as the batch is divided.

    Args:
      tree: Arrays whose first dim is the batch, or batch x tokens.

    Returns:
      The same values.
    """
    placement = _CURRENT.get()
    return tree if placement is None else jax.tree.map(placement.rows, tree)


def place_weight(w: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A parameter as a product needs it: whole but for what several devices multiply together.

    Args:
      w: The parameter, in the type of the product, so that no more than that is sent.
      axes: Its logical axes.

    Returns:
      The same values.
    """
    placement = _CURRENT.get()
    return w if placement is None else placement.weight(w, axes)
