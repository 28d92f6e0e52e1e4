"""Times of a schedule, from programs short enough to add up by hand."""

import pytest

from denoise_jax.parallel.chips import TPUS, Chip
from denoise_jax.planning import hlo
from denoise_jax.planning.schedule import estimate
from tests.planning.test_hlo import LOOP

# 1 FLOP, byte of memory and byte on a link per second, 100 cycles per second.
SLOW = Chip("slow", flops=1e3, memory=1, memory_bandwidth=1, link_bandwidth=1, torus_axes=1, clock=100)
MESH = {"data": 4, "fsdp": 2, "tensor": 1}

COLLECTIVES = """
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%all-reduce-scatter (r.x: f32[8]) -> f32[4] {
  %r.x = f32[8]{0} parameter(0)
  %r.sum = f32[8]{0} all-reduce(%r.x), channel_id=3, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%sum
  ROOT %r.mine = f32[4]{0} slice(%r.sum), slice={[0:4]}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %total = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%sum
  %start = (f32[8]{0}, f32[16]{0}) all-gather-start(%x), replica_groups={{0,1},{2,3},{4,5},{6,7}}
  %work = f32[8]{0} custom-call(%x), custom_call_target="other", backend_config={"estimated_cycles":"1000"}
  %done = f32[16]{0} all-gather-done(%start)
  ROOT %part = f32[4]{0} fusion(%total), kind=kCustom, calls=%all-reduce-scatter
}
"""


def test_a_loop_takes_its_body_times_its_trips():
    found = estimate(hlo.parse(LOOP), SLOW, {"data": 1, "fsdp": 1, "tensor": 1})
    assert found.step == pytest.approx(5 * 300 / 100)
    assert found.product_flops == 5 * 1024
    assert found.compute == {"matrix products": found.step}
    assert not found.warnings


def test_collectives_are_told_apart_by_kind_and_axes():
    found = estimate(hlo.parse(COLLECTIVES), SLOW, MESH)
    rows = {key: (row.runs, row.asynchronous, row.sent) for key, row in found.collectives.items()}
    assert rows == {
        ("all-reduce", ("data",)): (1, 0, 2 * 32 * 3 / 4),
        ("all-gather", ("fsdp",)): (1, 1, pytest.approx(48 / 2)),
        ("reduce-scatter", ("fsdp",)): (1, 0, 32 / 2),
    }


def test_what_computes_meanwhile_hides_a_collective():
    found = estimate(hlo.parse(COLLECTIVES), SLOW, MESH)
    reduce, gather, scatter = 48 / 2, 24 / 2, 16 / 2  # seconds: two directions of one axis
    work = 1000 / 100  # less than the gather
    assert found.step == pytest.approx(reduce + gather + scatter)
    assert found.exposed[("all-gather (wait)", ())] == pytest.approx(gather - work)


def test_a_collective_that_leaves_its_slice_is_named():
    found = estimate(hlo.parse(COLLECTIVES), TPUS["v5e"], MESH, slices=2)
    assert ("all-reduce", ("data", "slices")) in found.collectives
    assert ("all-gather", ("fsdp",)) in found.collectives


EXCHANGE = """
ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %after = token[] after-all()
  %recv = (f32[16]{0}, u32[], token[]) recv(%after), channel_id=1, OTHER
  %send = (f32[8]{0}, u32[], token[]) send(%x, %after), channel_id=2, OTHER
  %copy = (f32[4]{0}, f32[4]{0}, u32[]) copy-start(%x)
  %copied = f32[4]{0} copy-done(%copy)
  %work = f32[8]{0} custom-call(%x), custom_call_target="other", backend_config={"estimated_cycles":"1000"}
  ROOT %received = (f32[16]{0}, token[]) recv-done(%recv), channel_id=1, OTHER
}
""".replace("OTHER", '_xla_host_transfer_rendezvous="g.1",_xla_megascale_transfer_type="ALL_GATHER"')


def test_waiting_for_another_slice_is_communication_and_waiting_for_a_copy_is_not():
    network = Chip("slow", 1e3, 1, 1, link_bandwidth=1, torus_axes=1, network_bandwidth=0.5, clock=100)
    found = estimate(hlo.parse(EXCHANGE), network, MESH, slices=2)
    copy, work = 16, 1000 / 100  # seconds
    assert found.waiting == copy
    assert found.exposed == {("all-gather between slices (wait)", ()): pytest.approx(64 - copy - work)}
    row = found.collectives["all-gather", ("slices",)]
    assert (row.runs, row.asynchronous, row.sent, row.seconds) == (1, 1, 32, 64)
