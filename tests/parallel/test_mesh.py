"""Meshes over eight virtual devices."""

import jax
import pytest

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError
from denoise_jax.parallel.mesh import check_batch, make_mesh, padded_batch_size


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 2}, (4, 2, 1)),
        ({"fsdp": 2, "tensor": 2}, (2, 2, 2)),
        ({"data": 1, "fsdp": 8}, (1, 8, 1)),
    ],
)
def test_the_data_axis_takes_the_remaining_devices(axes, shape):
    mesh = make_mesh(ParallelConfig(**axes))
    assert tuple(mesh.shape.values()) == shape
    assert mesh.axis_names == ("data", "fsdp", "tensor")


def test_axes_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="fsdp=3.*8 available devices"):
        make_mesh(ParallelConfig(fsdp=3))
    with pytest.raises(ConfigError, match="data=4.*product is 8"):
        make_mesh(ParallelConfig(data=4))
    with pytest.raises(ConfigError, match="here: 12 rows.*8 devices"):
        check_batch(make_mesh(ParallelConfig()), 12, "here")
    check_batch(make_mesh(ParallelConfig(data=4), jax.devices()[:4]), 12, "here")


def test_batches_are_padded_to_a_multiple_of_their_shards():
    mesh = make_mesh(ParallelConfig(data=2, fsdp=2, tensor=2))
    assert [padded_batch_size(mesh, rows) for rows in (1, 4, 5)] == [4, 4, 8]
    assert [padded_batch_size(mesh, rows, data_shards=6) for rows in (1, 12, 13)] == [12, 12, 24]
