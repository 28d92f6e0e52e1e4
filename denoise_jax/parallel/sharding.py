"""One rule table for the train state: a regular expression on a leaf's path gives its PartitionSpec.

Exactly one rule must match each leaf. Parameters share rules with their optimizer moments, because the path
of a moment ends like that of its parameter.
"""

import math
import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.errors import ConfigError
from denoise_jax.parallel.mesh import AXES, BATCH_AXES

_OF_PARAMETER = r"(?:^|/)(?P<kind>params|mu|nu)/"
_MATRIX = re.compile(_OF_PARAMETER + r".*(kernel|tokens|positions)$")

# Heads, feed-forward width and vocabulary are sharded over `tensor`, the residual width over `fsdp`. The
# token embedding is sharded along the vocabulary only: with both axes sharded, XLA would gather the table.
RULES: tuple[tuple[str, P], ...] = (
    (_OF_PARAMETER + r"embedding/tokens$", P(("fsdp", "tensor"), None)),  # [vocab, embed]
    (_OF_PARAMETER + r"output/kernel$", P(None, ("fsdp", "tensor"))),  # [embed, vocab]
    (_OF_PARAMETER + r"(encoder|decoder)/positions$", P(None, "fsdp")),  # [position, embed]
    (_OF_PARAMETER + r".*_norm/(scale|bias)$", P()),  # [layer, embed] or [embed]
    (
        _OF_PARAMETER + r".*attention/(query|key|value)/kernel$",
        P(None, "fsdp", "tensor"),
    ),  # [layer, embed, heads]
    (_OF_PARAMETER + r".*attention/(query|key|value)/bias$", P(None, "tensor")),  # [layer, heads]
    (_OF_PARAMETER + r".*attention/out/kernel$", P(None, "tensor", "fsdp")),  # [layer, heads, embed]
    (_OF_PARAMETER + r".*attention/out/bias$", P()),  # [layer, embed]
    (_OF_PARAMETER + r".*ffn/(gate|up)/kernel$", P(None, "fsdp", "tensor")),  # [layer, embed, ffn]
    (_OF_PARAMETER + r".*ffn/(gate|up)/bias$", P(None, "tensor")),  # [layer, ffn]
    (_OF_PARAMETER + r".*ffn/down/kernel$", P(None, "tensor", "fsdp")),  # [layer, ffn, embed]
    (_OF_PARAMETER + r".*ffn/down/bias$", P()),  # [layer, embed]
    (_OF_PARAMETER + r"classifier/dense/kernel$", P("fsdp", "tensor")),  # [embed, embed]
    (_OF_PARAMETER + r"classifier/dense/bias$", P("tensor")),  # [embed]
    (_OF_PARAMETER + r"classifier/out/kernel$", P("tensor", None)),  # [embed, class]: classes are few
    (_OF_PARAMETER + r"classifier/out/bias$", P()),  # [class]
    (r"/(v_row|v_col|v)/", P()),  # Adafactor: factored second moments, small
    (r"(^|/)(count|step|key)$", P()),  # scalars and the PRNG key
)


def spec_for(path: str) -> P:
    """The PartitionSpec of the leaf at `path`; ConfigError unless exactly one rule matches."""
    matches = [(pattern, spec) for pattern, spec in RULES if re.search(pattern, path)]
    if len(matches) != 1:
        raise ConfigError(
            f"{len(matches)} sharding rules match leaf {path!r} of the train state; exactly one must: "
            "change RULES in denoise_jax/parallel/sharding.py"
        )
    return matches[0][1]


def state_shardings(abstract_state, mesh: Mesh, *, shard_moments: bool):
    """The NamedSharding of every leaf of a train state.

    Args:
      abstract_state: tree of arrays or ShapeDtypeStructs.
      mesh: with axes `data`, `fsdp`, `tensor`.
      shard_moments: also shard matrices and their optimizer moments over `data` (see `stored_spec`).

    Raises:
      ConfigError: no rule or several rules match a leaf, or an axis is not divisible by its mesh axes.
    """

    def sharding(path, leaf):
        name = leaf_name(path)
        _check_divides(name, leaf.shape, spec_for(name), mesh)
        return NamedSharding(mesh, stored_spec(name, leaf.shape, mesh, shard_moments=shard_moments))

    return jax.tree.map_with_path(sharding, abstract_state)


def stored_spec(name: str, shape: tuple[int, ...], mesh: Mesh, *, shard_moments: bool) -> P:
    """How a leaf of the train state is sharded between steps.

    With `shard_moments`, matrices and their moments are sharded over `data` as well, where an axis is
    divisible (ZeRO-1, Rajbhandari et al. 2019): each device updates its part, and the next step gathers the
    matrices in the compute dtype. Vectors are small, and cost more to gather than to keep.
    """
    spec = spec_for(name)
    if not (shard_moments and mesh.shape["data"] > 1 and _MATRIX.search(name)):
        return spec
    entries = list(spec) + [None] * (len(shape) - len(spec))
    # The last axis comes last: TPUs lay it out in tiles of 128.
    for axis in sorted(range(len(shape)), key=lambda axis: (axis == len(shape) - 1, -shape[axis])):
        axes = (*_axes(entries[axis]), "data")
        if shape[axis] % math.prod(mesh.shape[a] for a in axes) == 0:
            entries[axis] = axes
            return P(*entries)
    return spec


def leaf_name(path) -> str:
    """The path of a leaf as a string, such as `params/encoder/layers/ffn/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays, with rows sharded over `data` and `fsdp`, from this host's rows of a batch."""
    sharding = NamedSharding(mesh, P(BATCH_AXES))
    with jax.transfer_guard_host_to_device("allow"):  # with several processes, JAX counts it as implicit
        return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def _axes(entry) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _check_divides(name: str, shape: tuple[int, ...], spec: P, mesh: Mesh) -> None:
    for size, entry in zip(shape, spec, strict=False):
        split = math.prod(mesh.shape[axis] for axis in _axes(entry))
        if size % split:
            axes = " x ".join(f"parallel.{axis}={mesh.shape[axis]}" for axis in AXES if axis in _axes(entry))
            raise ConfigError(f"{axes} does not divide {size}, the size of an axis of {name} {shape}")
