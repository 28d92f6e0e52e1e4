"""Meshes over the topologies of real TPU pods, which libtpu describes on any machine."""

import os

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from denoise_jax.config import ParallelConfig
from denoise_jax.errors import ConfigError
from denoise_jax.parallel.mesh import make_mesh

pytest.importorskip("libtpu", reason="`make setup-tpu` installs it")


def _devices(name: str, slices: int) -> list[jax.Device]:
    settings = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_LOG_DIR": "disabled"}
    settings |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)
    return topologies.get_topology_desc(name, platform="tpu", num_slices=slices).devices


@pytest.mark.parametrize(
    "axes", [{}, {"fsdp": 8}, {"fsdp": 16, "tensor": 2}, {"fsdp": 2, "tensor": 4}], ids=str
)
@pytest.mark.parametrize(
    ("name", "slices"), [("v5e:4x4", 2), ("v5e:16x16", 1), ("v6e:16x16", 2), ("v5p:4x4x4", 2)]
)
def test_only_data_crosses_slices_and_tensor_stays_on_a_host(name, slices, axes):
    if axes.get("fsdp", 1) * axes.get("tensor", 1) > 16 and name == "v5e:4x4":
        pytest.skip("more than a slice has")
    devices = _devices(name, slices)
    mesh = make_mesh(ParallelConfig(**axes), devices)
    assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}
    found = np.vectorize(lambda device: getattr(device, "slice_index", 0))(mesh.devices)
    assert np.array_equal(found[:, 0, 0], np.repeat(range(slices), mesh.shape["data"] // slices))
    assert (found == found[:, :1, :1]).all()
    hosts = np.vectorize(lambda device: device.process_index)(mesh.devices)
    assert (hosts == hosts[..., :1]).all()


@pytest.mark.parametrize("axes", [{"fsdp": 4}, {"fsdp": 16}, {"tensor": 2}], ids=str)
def test_devices_along_an_axis_are_a_line_of_the_torus(axes):
    mesh = make_mesh(ParallelConfig(**axes), _devices("v6e:16x16", 1))
    (axis,) = axes
    lines = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), -1).reshape(-1, axes[axis])
    for line in lines:
        places = np.array([device.coords for device in line])
        steps = np.abs(np.diff(places, axis=0)).sum(axis=1)
        assert (steps == 1).all(), places


def test_what_does_not_fit_into_a_slice_or_a_host_is_refused():
    with pytest.raises(ConfigError, match="data=1 is not a multiple of the 2 slices"):
        make_mesh(ParallelConfig(fsdp=32), _devices("v5e:4x4", 2))
    with pytest.raises(ConfigError, match="tensor=8 spans several processes"):
        make_mesh(ParallelConfig(tensor=8), _devices("v5e:4x4", 1))
