"""A stack of layers, scanned or unrolled, and what surrounds it: positions, embedding norm, final norm.

Shape letters: B batch, T positions, D width, P position embeddings, K head width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.attention import ATTENTION_OUTPUT, SINGLE_DEVICE, Placement
from denoise_jax.model.dropout import dropout, layer_drop, named_keys, stacked_keys
from denoise_jax.model.linear import LINEAR_OUTPUT
from denoise_jax.model.norms import make_norm
from denoise_jax.model.rotary import rotary_cos_sin

# What the backward pass does not compute again, by `model.remat`.
_SAVED = {
    "full": None,
    "attention": jax.checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT),
    "dots": jax.checkpoint_policies.save_only_these_names(ATTENTION_OUTPUT, LINEAR_OUTPUT),
}

LAYERS = "encoder/layers/"  # where rules for layers look; those of the decoder are alike


class Stack(nnx.Module):
    """The encoder's or the decoder's layers, stacked on a leading axis, with positions and embedding norm.

    `drop_rate` is the probability of LayerDrop.
    """

    def __init__(
        self,
        config: ModelConfig,
        layer_type: type[nnx.Module],
        num_layers: int,
        drop_rate: float,
        rngs: nnx.Rngs,
    ):
        if config.positions == "learned":
            table_PD = jax.random.normal(rngs.params(), (config.max_positions, config.embed_dim))
            self.positions = nnx.Param(config.init_std * table_PD)
        if config.embedding_norm:
            self.embedding_norm = make_norm(config)
        layer_keys = jax.random.split(rngs.params(), num_layers)
        self.layers = jax.vmap(lambda key: layer_type(config, nnx.Rngs(key)))(layer_keys)
        if config.norm_position == "pre":
            self.final_norm = make_norm(config)
        self.num_layers = num_layers
        self.drop_rate = drop_rate
        self.config = config

    def embed(
        self, embedded_BTD: jax.Array, positions_BT: jax.Array, dropout_key: jax.Array | None
    ) -> jax.Array:
        """Adds learned positions to token embeddings in float32, normalises and casts to the compute dtype.

        Raises:
          ValueError: rows longer than `max_positions`.
        """
        if positions_BT.shape[1] > self.config.max_positions:
            raise ValueError(
                f"rows of {positions_BT.shape[1]} tokens exceed max_positions={self.config.max_positions}: "
                "raise max_positions or shorten the rows"
            )
        x_BTD = embedded_BTD
        if self.config.positions == "learned":
            x_BTD = x_BTD + self.positions[positions_BT]
        if self.config.embedding_norm:
            x_BTD = self.embedding_norm(x_BTD)
        return dropout(x_BTD.astype(self.config.compute_dtype), self.config.dropout, dropout_key)

    def cos_sin(self, positions_BT: jax.Array) -> jax.Array | None:
        """Rotary cosines and sines, float32 [B, T, K]; None for learned positions."""
        if self.config.positions == "learned":
            return None
        head_width = self.config.embed_dim // self.config.num_heads
        return rotary_cos_sin(positions_BT, head_width, self.config.rope_theta)

    def cast_layers(self, placement: Placement = SINGLE_DEVICE) -> nnx.Module:
        """The stacked layers with matrices in the compute dtype; vectors stay float32 until they are used."""
        dtype = self.config.compute_dtype
        cast = jax.tree.map(lambda p: p.astype(dtype) if p.ndim > 2 else p, self.layers)
        return placement.gather(cast, LAYERS)

    def unstack_layers(self, placement: Placement = SINGLE_DEVICE) -> list[nnx.Module]:
        """The cast layers as a list. Split rather than indexed: the gradient is then one concatenation."""
        leaves, structure = jax.tree.flatten(self.cast_layers(placement))
        split_leaves = [jax.lax.split(leaf, (1,) * self.num_layers) for leaf in leaves]
        return [
            jax.tree.unflatten(structure, [jnp.squeeze(leaf, 0) for leaf in layer])
            for layer in zip(*split_leaves, strict=True)
        ]

    def run(
        self,
        x_BTD: jax.Array,
        *layer_inputs: jax.Array | None,
        dropout_key: jax.Array | None,
        placement: Placement,
    ) -> jax.Array:
        """Applies all layers, scanned or unrolled and rematerialised as configured, and the final norm.

        Every layer also receives `layer_inputs`.
        """
        x_BTD = placement.constrain(x_BTD, "residual")

        def apply_layer(x_BTD, layer_and_key):
            layer, layer_key = layer_and_key
            layer = placement.scatter_gradients(layer, LAYERS)
            drop_key = None
            if self.drop_rate:
                layer_key, drop_key = named_keys(layer_key, "layer", "drop").values()

            def apply(x_BTD):
                return layer(x_BTD, *layer_inputs, dropout_key=layer_key, placement=placement)

            return placement.constrain(layer_drop(apply, x_BTD, self.drop_rate, drop_key), "residual"), None

        scan = self.config.scan_layers
        if self.config.remat != "none":
            apply_layer = jax.checkpoint(apply_layer, policy=_SAVED[self.config.remat], prevent_cse=not scan)
        keys = stacked_keys(dropout_key, self.num_layers)
        if scan:
            x_BTD, _ = jax.lax.scan(apply_layer, x_BTD, (self.cast_layers(placement), keys))
        else:
            keys = [None] * self.num_layers if keys is None else keys
            for layer_and_key in zip(self.unstack_layers(placement), keys, strict=True):
                x_BTD, _ = apply_layer(x_BTD, layer_and_key)
        return self.normalize_output(x_BTD)

    def normalize_output(self, x_BTD: jax.Array) -> jax.Array:
        """The final norm of a pre-norm stack; x unchanged after post-norm layers."""
        return self.final_norm(x_BTD) if self.config.norm_position == "pre" else x_BTD
