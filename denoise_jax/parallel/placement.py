"""How the model's activations are laid out on a mesh, and which attention it uses there."""

import functools

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import ParallelConfig
from denoise_jax.model.attention import Placement
from denoise_jax.parallel.attention_choice import make_attention
from denoise_jax.parallel.mesh import BATCH_AXES
from denoise_jax.parallel.sharding import leaf_name, spec_for, stored_spec

_SPECS = {
    "residual": P(BATCH_AXES, None, None),  # [batch, position, embed]
    "logits": P(BATCH_AXES, None, "tensor"),  # [batch, position, vocab]
    "classes": P(BATCH_AXES, None, None),  # [batch, position, class]
}


class MeshPlacement(Placement):
    """Shards rows over `data` and `fsdp`, and heads and the vocabulary of logits over `tensor`."""

    def __init__(self, mesh: Mesh, config: ParallelConfig):
        self.mesh, self.shard_moments = mesh, config.shard_moments
        self.attention = make_attention(config.attention, mesh)

    def constrain(self, x: jax.Array, kind: str) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, _SPECS[kind]))

    def gather(self, parameters, path: str):
        def gather(leaf_path, leaf):
            name = _parameter_name(path, leaf_path)
            used, stored = spec_for(name), self._stored(name, leaf.shape)
            if used == stored or (not path and "/layers/" in name):  # layers are cast first
                return leaf
            return _relayout(leaf, NamedSharding(self.mesh, used), NamedSharding(self.mesh, stored))

        return jax.tree.map_with_path(gather, parameters)

    def scatter_gradients(self, layer, path: str):
        def scatter(leaf_path, leaf):
            name = _parameter_name(path, leaf_path)
            stored = P(*self._stored(name, (1, *leaf.shape))[1:])
            return _relayout(leaf, None, NamedSharding(self.mesh, stored)) if leaf.ndim > 1 else leaf

        return jax.tree.map_with_path(scatter, layer)

    def map_rows(self, function, shared, rows):
        """On each device's rows; the sums of all devices are added up. Other axes are left to XLA."""

        def per_device(shared, rows):
            sums, rows = function(shared, rows)
            return jax.lax.psum(sums, BATCH_AXES), rows

        specs = {"in_specs": (P(), P(BATCH_AXES)), "out_specs": (P(), P(BATCH_AXES))}
        return jax.shard_map(per_device, mesh=self.mesh, axis_names={*BATCH_AXES}, check_vma=False, **specs)(
            shared, rows
        )

    def _stored(self, name: str, shape: tuple[int, ...]) -> P:
        return stored_spec(name, shape, self.mesh, shard_moments=self.shard_moments)


def _parameter_name(path: str, leaf_path) -> str:
    return f"params/{path}{leaf_name(leaf_path)}".removesuffix("/value")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _relayout(x: jax.Array, used: NamedSharding | None, stored: NamedSharding) -> jax.Array:
    """x in the layout `used`, if given; its gradient in the layout `stored`."""
    if used is None:
        return x
    # The barrier keeps XLA from gathering in float32 what was cast before, as it does between slices.
    return jax.lax.with_sharding_constraint(jax.lax.optimization_barrier(x), used)


_relayout.defvjp(
    lambda x, used, stored: (_relayout(x, used, stored), None),
    lambda used, stored, _, gradient: (jax.lax.with_sharding_constraint(gradient, stored),),
)
