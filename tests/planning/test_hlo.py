"""Reading compiled programs from their text."""

import jax
import jax.numpy as jnp
import pytest

from denoise_jax.planning import hlo

# A loop that counts to 10 by two; its body multiplies [8, 4] by [4, 16] as a TPU program writes it.
LOOP = """
HloModule example

%condition (c.in: (s32[])) -> pred[] {
  %c.in = (s32[]) parameter(0)
  %c.count = s32[] get-tuple-element(%c.in), index=0
  %c.bound = s32[] constant(10)
  ROOT %c.less = pred[] compare(%c.count, %c.bound), direction=LT
}

%product (p.a: bf16[8,4], p.b: bf16[4,16]) -> f32[8,16] {
  %p.a = bf16[8,4]{1,0} parameter(0)
  %p.b = bf16[4,16]{1,0} parameter(1)
  ROOT %p.dot = f32[8,16]{1,0} convolution(%p.a, %p.b), dim_labels=bf_io->bf
}

%body (b.in: (s32[])) -> (s32[]) {
  %b.in = (s32[]) parameter(0)
  %b.count = s32[] get-tuple-element(%b.in), index=0
  %b.two = s32[] constant(2)
  %b.next = s32[] add(%b.count, %b.two)
  %b.x = bf16[8,4]{1,0:T(8,128)(2,1)} constant({...})
  %b.y = bf16[4,16]{1,0:T(8,128)(2,1)S(1)} constant({...})
  %b.fusion = f32[8,16]{1,0} fusion(%b.x, %b.y), calls=%product, op_name="dot", {"estimated_cycles":"300"}
  ROOT %b.out = (s32[]) tuple(%b.next)
}

ENTRY %main (start: s32[]) -> (s32[]) {
  %start = s32[] parameter(0)
  %in = (s32[]) tuple(%start)
  ROOT %loop = (s32[]) while(%in), condition=%condition, body=%body
}
"""


def test_instructions_are_read():
    program = hlo.parse(LOOP)
    assert program.entry == "main"
    fusion = program.by_name("body")["b.fusion"]
    assert (fusion.opcode, fusion.operands) == ("fusion", ("b.x", "b.y"))
    assert (fusion.attribute("calls"), fusion.estimated_cycles) == ("product", 300)
    assert fusion.source == "dot"
    assert [x.name for x in program.called(fusion)] == ["p.a", "p.b", "p.dot"]
    assert program.by_name("body")["b.out"].is_root


def test_a_loop_that_counts_by_two_runs_half_as_often():
    program = hlo.parse(LOOP)
    (loop,) = (x for x in program.computations["main"] if x.opcode == "while")
    assert hlo.trip_count(program, loop) == 5


def test_flops_of_a_product():
    program = hlo.parse(LOOP)
    fusion = program.by_name("body")["b.fusion"]
    assert hlo.product_flops(program, fusion, {}) == 2 * 8 * 4 * 16


@pytest.mark.parametrize(
    ("type_", "size", "in_hbm"),
    [
        ("f32[2,3]{1,0}", 24, 24),
        ("bf16[8,4]{1,0:T(8,128)(2,1)S(1)}", 64, 0),
        ("(s8[5]{0}, (pred[2]{0}, u32[]))", 11, 11),
        ("s4[3]{0}", 1.5, 1.5),
        ("token[]", 0, 0),
    ],
)
def test_bytes_of_a_type(type_, size, in_hbm):
    assert hlo.num_bytes(type_) == size
    assert hlo.num_bytes(type_, in_hbm=True) == in_hbm


def test_elements_of_nested_tuples():
    assert hlo.elements("(f32[2]{0}, (s32[], u8[1]), bf16[3,4]{1,0})") == [
        "f32[2]{0}",
        "(s32[], u8[1])",
        "bf16[3,4]{1,0}",
    ]
    assert hlo.elements("f32[2]{0}") == ["f32[2]{0}"]


def test_the_text_of_a_real_program_is_read():
    """Compiled for this CPU: nothing is left out, and the loop has its trip count."""

    def step(x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, length=7)[0]

    text = jax.jit(step).lower(jnp.ones((16, 16))).compile().as_text()
    program = hlo.parse(text)
    instructions = sum(map(len, program.computations.values()))
    assert instructions == sum(" = " in line and line.startswith("  ") for line in text.splitlines())
    loops = [x for schedule in program.computations.values() for x in schedule if x.opcode == "while"]
    assert [hlo.trip_count(program, loop) for loop in loops] == [7]


def test_another_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.parse("module @jit_step {}")
