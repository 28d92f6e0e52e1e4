"""How the model's activations are laid out on a mesh, and which attention it uses there.

A fused attention kernel for a mesh belongs here: override `MeshPlacement.attention` with the kernel under
`jax.shard_map`. The model's signatures do not change.
"""

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.model.attention import Placement
from denoise_jax.parallel.mesh import BATCH_AXES

_SPECS = {
    "residual": P(BATCH_AXES, None, None),  # [batch, position, embed]
    "logits": P(BATCH_AXES, None, "tensor"),  # [batch, position, vocab]
    "classes": P(BATCH_AXES, None, None),  # [batch, position, class]
}


class MeshPlacement(Placement):
    """Shards rows over `data` and `fsdp`, and the vocabulary of logits over `tensor`; plain attention."""

    def __init__(self, mesh: Mesh):
        self.mesh = mesh

    def constrain(self, x: jax.Array, kind: str) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, _SPECS[kind]))
