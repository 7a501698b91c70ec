from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np

from rsfm_jax.nn.patchify import patchify, unpatchify


def test_rows_then_columns_then_bands():
    image = np.array([[[[10 * r + c, 100 + 10 * r + c] for c in range(4)] for r in range(4)]])  # (1, 4, 4, 2)
    patches = np.asarray(patchify(jnp.asarray(image), 2))
    assert patches.shape == (1, 4, 8)
    assert patches[0, 0].tolist() == [0, 100, 1, 101, 10, 110, 11, 111]
    assert patches[0, 1].tolist() == [2, 102, 3, 103, 12, 112, 13, 113]
    assert patches[0, 2, 0] == 20


@settings(max_examples=25, deadline=None)
@given(B=st.integers(1, 2), rows=st.integers(1, 3), columns=st.integers(1, 3), patch=st.sampled_from([1, 2, 4]), C=st.integers(1, 3))
def test_there_and_back(B, rows, columns, patch, C):
    image = np.arange(B * rows * patch * columns * patch * C).reshape(B, rows * patch, columns * patch, C)
    np.testing.assert_array_equal(unpatchify(patchify(jnp.asarray(image), patch), patch, rows, columns), image)
