"""How the model's activations are laid out on a mesh, and which attention it uses there."""

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import ParallelConfig
from denoise_jax.model.attention import Placement
from denoise_jax.parallel.attention import make_attention
from denoise_jax.parallel.mesh import BATCH_AXES

_SPECS = {
    "residual": P(BATCH_AXES, None, None),  # [batch, position, embed]
    "logits": P(BATCH_AXES, None, "tensor"),  # [batch, position, vocab]
    "classes": P(BATCH_AXES, None, None),  # [batch, position, class]
}


class MeshPlacement(Placement):
    """Shards rows over `data` and `fsdp`, and heads and the vocabulary of logits over `tensor`."""

    def __init__(self, mesh: Mesh, config: ParallelConfig):
        self.mesh = mesh
        self.attention = make_attention(config.attention, mesh)

    def constrain(self, x: jax.Array, kind: str) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, _SPECS[kind]))
