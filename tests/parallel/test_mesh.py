import jax
import pytest

from rsfm_jax.config import ParallelConfig
from rsfm_jax.errors import InputError
from rsfm_jax.parallel.mesh import check_batch, make_mesh


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((-1, 1), (8, 1)), ((2, 4), (2, 4)), ((-1, 4), (2, 4)), ((4, -1), (4, 2)), ((1, -1), (1, 8)), ((2, 2, 2), (2, 2, 2))],
)
def test_sizes(sizes, shape):
    mesh = make_mesh(ParallelConfig(*sizes))
    assert mesh.axis_names == ("data", "fsdp", "tensor", "expert")
    assert tuple(mesh.shape.values()) == (*shape, 1, 1)[:4]
    assert len({device.id for device in mesh.devices.flat}) == 8


def test_one_device():
    assert make_mesh(ParallelConfig(), jax.devices()[:1]).size == 1


def test_sizes_that_leave_a_rest():
    with pytest.raises(InputError, match=r"'fsdp': 3.*8 devices do not divide by 3"):
        make_mesh(ParallelConfig(-1, 3))


def test_sizes_that_do_not_fill_the_devices():
    with pytest.raises(InputError, match=r"'data': 2.*makes 4 devices, there are 8; set one axis to -1"):
        make_mesh(ParallelConfig(2, 2))


def test_batches():
    mesh = make_mesh(ParallelConfig(2, 4))
    check_batch(mesh, 16)
    with pytest.raises(InputError, match=r"global_batch_size=12: must be a multiple of data x fsdp = 8"):
        check_batch(mesh, 12)
