"""The encoder-decoder and its parameters: embeddings, the two stacks of layers, the output or a head.

Parameters are a plain nested dict of float32 arrays, `{"embedding": {"tokens": ...}, "encoder": ...}`, in
which the layers of a stack share leaves with a leading layer axis. `init_params` makes it, `module` puts it
to use inside `jax.jit` and `jax.grad`. Where arrays live is the caller's affair: `constrain` is called with
what should be pinned to a mesh.

Shape letters: B batch, S source positions, T target positions, D width, V padded vocabulary, P rows of a
position table, L layers, K head width, C classes.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.classifier import Classifier
from denoise_jax.model.dropout import dropout, layer_drop, split, spread
from denoise_jax.model.layers import DecoderLayer, EncoderLayer
from denoise_jax.model.linear import make_linear
from denoise_jax.model.norms import make_norm
from denoise_jax.model.rotary import turns

Constrain = Callable[[jax.Array, str], jax.Array]

# Logit of a padding column: no probability is left of it, and sums over columns stay finite in bfloat16 too.
NEVER = -1e9


def identity(x: jax.Array, kind: str) -> jax.Array:
    """The `constrain` of a single device: leaves `x` of kind "residual", "logits" or "classes" as it is."""
    return x


class Stack(nnx.Module):
    """One side of the model: positions, embedding norm and layers stacked on a leading axis.

    `drop_rate` is the chance that a layer is left out of a training step.
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

    def embed(self, embedded_BTD: jax.Array, positions_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        """Token embeddings plus learned positions, normalised, in the compute dtype; the sum is float32."""
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
        return dropout(x_BTD.astype(self.config.compute_dtype), self.config.dropout, key)

    def turns(self, positions_BT: jax.Array) -> jax.Array | None:
        """What rotary positions turn queries and keys by, float32 [B, T, K]; None for learned positions."""
        if self.config.positions == "learned":
            return None
        head_width = self.config.embed_dim // self.config.num_heads
        return turns(positions_BT, head_width, self.config.rope_theta)

    def cast_layers(self) -> nnx.Module:
        """Stacked layers with matrices in the compute dtype; vectors stay float32 until they are used."""
        dtype = self.config.compute_dtype
        return jax.tree.map(lambda p: p.astype(dtype) if p.ndim > 2 else p, self.layers)

    def unstack_layers(self) -> list[nnx.Module]:
        """The layers one by one, cast. Split rather than indexed: its gradient is a single concatenation."""
        leaves, structure = jax.tree.flatten(self.cast_layers())
        pieces = [jax.lax.split(leaf, (1,) * self.num_layers) for leaf in leaves]
        return [
            jax.tree.unflatten(structure, [jnp.squeeze(piece, 0) for piece in layer])
            for layer in zip(*pieces, strict=True)
        ]

    def run(
        self, x_BTD: jax.Array, *inputs: jax.Array | None, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        """The layers in turn, each given `inputs` too: scanned or unrolled, recomputed as `remat` says."""
        x_BTD = constrain(x_BTD, "residual")

        def apply(x_BTD, layer_and_key):
            layer, layer_key = layer_and_key
            layer_key, drop_key = spread(layer_key, 2) if self.drop_rate else (layer_key, None)

            def whole(x_BTD):
                return layer(x_BTD, *inputs, dropout_key=layer_key)

            return constrain(layer_drop(whole, x_BTD, self.drop_rate, drop_key), "residual"), None

        scan = self.config.scan_layers
        if self.config.remat != "none":
            dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
            policy = dots if self.config.remat == "dots" else None
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=not scan)
        if scan:
            x_BTD, _ = jax.lax.scan(apply, x_BTD, (self.cast_layers(), split(key, self.num_layers)))
        else:
            for layer_and_key in zip(self.unstack_layers(), spread(key, self.num_layers), strict=True):
                x_BTD, _ = apply(x_BTD, layer_and_key)
        return self.finish(x_BTD)

    def finish(self, x_BTD: jax.Array) -> jax.Array:
        """The norm that a pre-norm stack ends with; nothing after post-norm layers."""
        return self.final_norm(x_BTD) if self.config.norm_position == "pre" else x_BTD


class Embedding(nnx.Module):
    """The token table, padded to `vocab_multiple` rows; both sides read it, and the output where tied."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        shape = config.padded_vocab_size, config.embed_dim
        self.tokens = nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape))
        self.scale = config.embed_dim**0.5 if config.scale_embedding else 1.0

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """Rows of the table, float32 [B, T, D]; so the gradient of a frequent token is summed in float32."""
        return self.tokens[tokens_BT] * self.scale


class EncoderDecoder(nnx.Module):
    """BART by configuration. Tokens, segment ids and positions are int32; segment id 0 is padding.

    Without `dropout_key` the model is deterministic. `constrain(x, kind)` is called on the embedded input and
    on every layer's output with kind "residual", and on the result with kind "logits" or, of a classification
    head, "classes".
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.embedding = Embedding(config, rngs)
        self.encoder = Stack(config, EncoderLayer, config.num_encoder_layers, config.encoder_layer_drop, rngs)
        self.decoder = Stack(config, DecoderLayer, config.num_decoder_layers, config.decoder_layer_drop, rngs)
        if config.num_classes is not None:
            self.classifier = Classifier(config, rngs)
        elif not config.tie_embeddings:
            self.output = make_linear(
                config, rngs, config.embed_dim, config.padded_vocab_size, use_bias=False
            )
        self.config = config

    def encode(
        self,
        tokens_BS: jax.Array,
        segment_ids_BS: jax.Array,
        positions_BS: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
        constrain: Constrain = identity,
    ) -> jax.Array:
        """The encoder's output [B, S, D] in the compute dtype."""
        embedding_key, layers_key = spread(dropout_key, 5)[:2]
        x_BSD = self.encoder.embed(self.embedding(tokens_BS), positions_BS, embedding_key)
        inputs = segment_ids_BS, self.encoder.turns(positions_BS)
        return self.encoder.run(x_BSD, *inputs, key=layers_key, constrain=constrain)

    def decode(
        self,
        tokens_BT: jax.Array,
        segment_ids_BT: jax.Array,
        positions_BT: jax.Array,
        encoded_BSD: jax.Array,
        encoder_segment_ids_BS: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
        constrain: Constrain = identity,
    ) -> jax.Array:
        """The decoder's output [B, T, D] in the compute dtype. May be given the same key as `encode`."""
        embedding_key, layers_key = spread(dropout_key, 5)[2:4]
        x_BTD = self.decoder.embed(self.embedding(tokens_BT), positions_BT, embedding_key)
        inputs = segment_ids_BT, self.decoder.turns(positions_BT), encoded_BSD, encoder_segment_ids_BS
        return self.decoder.run(x_BTD, *inputs, key=layers_key, constrain=constrain)

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """Scores [B, T, V] in the compute dtype; columns beyond the vocabulary hold `NEVER`.

        Raises ValueError where a classification head stands in place of the vocabulary.
        """
        if self.config.num_classes is not None:
            raise ValueError(
                f"num_classes={self.config.num_classes}: this model tells classes and predicts no tokens; "
                "take one without a classification head"
            )
        if self.config.tie_embeddings:
            table_VD = self.embedding.tokens[...].astype(self.config.compute_dtype)
            logits_BTV = jnp.einsum("BTD,VD->BTV", hidden_BTD, table_VD)
        else:
            logits_BTV = self.output(hidden_BTD)
        columns = logits_BTV.shape[-1]
        if columns == self.config.vocab_size:
            return logits_BTV
        return jnp.where((jnp.arange(columns) < self.config.vocab_size)[None, None], logits_BTV, NEVER)

    def __call__(
        self,
        batch: Mapping[str, jax.Array],
        *,
        dropout_key: jax.Array | None = None,
        constrain: Constrain = identity,
    ) -> jax.Array:
        """Logits of a batch of int32 arrays: [B, T, V], or float32 [B, T, C] of a classification head.

        The head is put on every decoder position; the caller picks the last token of each segment.

        `encoder_input_tokens, encoder_segment_ids, encoder_positions` are [B, S];
        `decoder_input_tokens, decoder_segment_ids, decoder_positions` are [B, T].
        """
        encoder_segments_BS = batch["encoder_segment_ids"]
        encoded_BSD = self.encode(
            batch["encoder_input_tokens"],
            encoder_segments_BS,
            batch["encoder_positions"],
            dropout_key=dropout_key,
            constrain=constrain,
        )
        hidden_BTD = self.decode(
            batch["decoder_input_tokens"],
            batch["decoder_segment_ids"],
            batch["decoder_positions"],
            encoded_BSD,
            encoder_segments_BS,
            dropout_key=dropout_key,
            constrain=constrain,
        )
        if self.config.num_classes is not None:
            return constrain(self.classifier(hidden_BTD, spread(dropout_key, 5)[4]), "classes")
        return constrain(self.logits(hidden_BTD), "logits")


def init_params(config: ModelConfig, key: jax.Array) -> dict:
    """Fresh float32 parameters, a plain nested dict. Pure: jit it with `out_shardings` for a mesh."""
    model = EncoderDecoder(config, nnx.Rngs(key))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def _paths(params: Mapping) -> list[str]:
    return ["/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


@functools.lru_cache
def _definition(config: ModelConfig) -> tuple[nnx.GraphDef, list[str]]:
    graphdef, params = nnx.split(nnx.eval_shape(lambda: EncoderDecoder(config, nnx.Rngs(0))))
    return graphdef, _paths(nnx.to_pure_dict(params))


def bind_params(config: ModelConfig, params: Mapping) -> EncoderDecoder:
    """The model with these parameters. Cheap: only the first call for a configuration builds anything.

    Raises ValueError, with the names, where the parameters are not those of the configuration: `nnx.merge`
    itself goes by their order alone.
    """
    graphdef, expected = _definition(config)
    found = _paths(params)
    if found != expected:
        missing, unexpected = sorted({*expected} - {*found}), sorted({*found} - {*expected})
        raise ValueError(
            "these parameters are not of this model configuration; "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
        )
    return nnx.merge(graphdef, params)
