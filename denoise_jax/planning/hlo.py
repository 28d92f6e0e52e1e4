"""Reads a compiled, scheduled XLA program from its text.

The text is what `jax.stages.Compiled.as_text` returns. Only what `planning/schedule.py` needs is parsed.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+[0-9a-z]*)\[([0-9,]*)\](\{[^}]*\})?")
_FAST_MEMORY = re.compile(r"S\([1-9]")  # in a layout: not in HBM
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation, such as `%add.1 = f32[8]{0} add(%a, %b), metadata={…}`."""

    name: str
    type: str  # an array, or a tuple in parentheses
    opcode: str
    operands: tuple[str, ...]  # names; the value of a constant, the number of a parameter
    attributes: str  # all that follows the operands
    is_root: bool

    def attribute(self, name: str) -> str | None:
        """The word after `name=`, such as the computation that a fusion calls."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return found and found.group(1)

    @property
    def estimated_cycles(self) -> int | None:
        """The compiler's own estimate, which most fusions carry."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
        return int(found.group(1)) if found else None

    @property
    def source(self) -> str:
        """Where the program was traced: `jit(step)/…/dot_general`."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a module, each a schedule."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str

    @functools.cache  # noqa: B019 (a program lives as long as its plan)
    def by_name(self, computation: str) -> dict[str, Instruction]:
        return {instruction.name: instruction for instruction in self.computations.get(computation, ())}

    def called(self, instruction: Instruction) -> Sequence[Instruction]:
        """The computation that a fusion or an asynchronous operation calls; empty if it calls none."""
        return self.computations.get(instruction.attribute("calls") or "", ())

    def __hash__(self) -> int:
        return id(self)


def parse(text: str) -> Program:
    """The program in `text`.

    Raises:
      ValueError: the text has no entry computation.
    """
    text = re.sub(r"kernel_metadata=\{\n.*?\n\}", "", text, flags=re.DOTALL)  # may hold line breaks
    computations: dict[str, list[Instruction]] = {}
    current, entry = None, None
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            current = computations.setdefault(start.group(2), [])
            entry = start.group(2) if start.group(1) else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _parse_instruction(*found.groups())
            if instruction is not None:
                current.append(instruction)
    if entry is None:
        raise ValueError("the text is not that of a compiled program: it has no ENTRY computation")
    return Program(computations, entry)


def _parse_instruction(root: str | None, name: str, body: str) -> Instruction | None:
    end = _closing(body, 0) if body.startswith("(") else body.find(" ")
    type_, call = body[:end], body[end:].lstrip()
    start = call.find("(")
    if start < 0:
        return None
    end = _closing(call, start)
    opcode, inside = call[:start], call[start + 1 : end - 1]
    literal = opcode in ("constant", "parameter")
    operands = (inside,) if literal else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, type_, opcode, operands, call[end:], bool(root))


def _closing(text: str, start: int) -> int:
    """The index after the bracket that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[(\[{}\])]").finditer(text, start):
        depth += 1 if found.group() in "([{" else -1
        if depth == 0:
            return found.end()
    return len(text)


def dimensions(type_: str) -> list[int]:
    """The sizes of the axes of the first array in a type."""
    found = _ARRAY.search(type_)
    return [int(size) for size in found.group(2).split(",") if size] if found else []


def elements(type_: str) -> list[str]:
    """The types in a tuple type, or the type itself."""
    if not type_.startswith("("):
        return [type_]
    parts, depth, start = [], 0, 1
    for index, character in enumerate(type_):
        depth += (character in "([{") - (character in ")]}")
        if (depth == 1 and character == ",") or depth == 0:
            parts.append(type_[start:index].strip())
            start = index + 1
    return parts


def num_bytes(type_: str, *, in_hbm: bool = False) -> float:
    """Bytes of all arrays in a type; with `in_hbm`, only of those that are not kept in faster memory."""
    total = 0.0
    for dtype, sizes, layout in _ARRAY.findall(type_):
        if in_hbm and layout and _FAST_MEMORY.search(layout):
            continue
        digits = re.search(r"\d+", dtype)
        bits = _BITS.get(dtype) or (int(digits.group()) if digits and dtype[0] in "fsu" else 0)
        total += bits / 8 * math.prod(int(size) for size in sizes.split(",") if size)
    return total


def trip_count(program: Program, loop: Instruction) -> int | None:
    """How often the body of a `while` runs; None if the program does not tell.

    The bound alone is not enough: the loops of windowed matrix products count by two.
    """
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known.group(1))
    condition = program.by_name(loop.attribute("condition") or "")
    body = program.by_name(loop.attribute("body") or "")
    test = next((x for x in condition.values() if x.is_root), None)
    result = next((x for x in body.values() if x.is_root), None)
    if test is None or result is None or result.opcode != "tuple":
        return None
    bound = index = None
    for operand in (condition.get(name) for name in test.operands):
        if operand is not None and (value := _integer(operand)) is not None:
            bound = value
        elif operand is not None and operand.opcode == "get-tuple-element":
            index = int(re.search(r"index=(\d+)", operand.attributes).group(1))
    if bound is None or index is None:
        return None
    update = body.get(result.operands[index])
    steps = [_integer(body[name]) for name in update.operands if name in body] if update else []
    step = next((step for step in steps if step), 1)
    return -(-bound // step)  # counters start at 0


def _integer(instruction: Instruction) -> int | None:
    value = instruction.operands[0] if instruction.opcode == "constant" else ""
    return int(value) if re.fullmatch(r"-?\d+", value) else None


def product_flops(program: Program, instruction: Instruction, types: Mapping[str, str]) -> float:
    """FLOPs of the matrix products in an instruction (2 for a multiplication and an addition).

    Args:
      types: of the operands, by name.
    """
    if instruction.opcode == "fusion":
        return _computation_flops(program, instruction.attribute("calls") or "")
    return _convolution_flops(instruction, types) if instruction.opcode == "convolution" else 0.0


@functools.cache
def _computation_flops(program: Program, computation: str) -> float:
    inside = program.by_name(computation)
    types = {name: instruction.type for name, instruction in inside.items()}
    return sum(product_flops(program, instruction, types) for instruction in inside.values())


def _convolution_flops(instruction: Instruction, types: Mapping[str, str]) -> float:
    """TPU programs write matrix products as convolutions, whose spatial axes may be batch axes.

    With B batch, M and N free and K contracted elements, the three arrays have B M K, B K N and B M N
    elements, whose product is B (B M N K)^2.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    arrays = [*(types.get(name, "") for name in instruction.operands[:2]), instruction.type]
    if not labels or not all(_ARRAY.search(array) for array in arrays):
        return 0.0
    sizes = [dimensions(array) for array in arrays]
    batch = 1
    for label in "0123456789":
        if all(label in part for part in labels.groups()):
            shared = {size[part.index(label)] for size, part in zip(sizes, labels.groups(), strict=True)}
            batch *= shared.pop() if len(shared) == 1 else 1
    return 2 * math.sqrt(math.prod(map(math.prod, sizes)) / batch)
