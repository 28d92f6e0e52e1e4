"""The encoder-decoder and its parameters.

Parameters are a nested dict of float32 arrays, `{"embedding": {"tokens": ...}, "encoder": ...}`; the layers
of a stack share leaves with a leading layer axis. `init_params` creates them, and `bind_params` turns them
into a callable model inside `jax.jit` and `jax.grad`. The model knows no devices: it passes the activations
that matter to `placement.constrain` and computes attention with `placement.attention`.

Shape letters: B batch, S source positions, T target positions, D width, V padded vocabulary, C classes.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from denoise_jax.config import ModelConfig
from denoise_jax.model.attention import SINGLE_DEVICE, Placement
from denoise_jax.model.classifier import Classifier
from denoise_jax.model.dropout import named_keys
from denoise_jax.model.layers import DecoderLayer, EncoderLayer
from denoise_jax.model.linear import make_linear
from denoise_jax.model.products import product, product_with_transposed
from denoise_jax.model.stack import Stack

# Logit of a padding id: its probability is 0, and sums over the vocabulary stay finite even in bfloat16.
PADDING_LOGIT = -1e9

_DROPOUT_KEYS = "encoder_embedding", "encoder_layers", "decoder_embedding", "decoder_layers", "classifier"


def mask_padding_ids(logits_BTV: jax.Array, vocab_size: int) -> jax.Array:
    """Logits with `PADDING_LOGIT` in the columns after the first `vocab_size`."""
    if logits_BTV.shape[-1] == vocab_size:
        return logits_BTV

    def in_place(logits_BTV):
        padding = jnp.full_like(logits_BTV[..., vocab_size:], PADDING_LOGIT)
        return jax.lax.dynamic_update_slice_in_dim(logits_BTV, padding, vocab_size, axis=2)

    def elsewhere(logits_BTV):
        """In an elementwise way, so that the vocabulary may be sharded; fused with what uses the logits."""
        real_V = jnp.arange(logits_BTV.shape[-1]) < vocab_size
        return jnp.where(real_V[None, None], logits_BTV, PADDING_LOGIT)

    return jax.lax.platform_dependent(logits_BTV, cpu=in_place, default=elsewhere)


def vocabulary_logits(config: ModelConfig, matrix: jax.Array, hidden_BTD: jax.Array) -> jax.Array:
    """Logits [B, T, V] in the compute dtype of the decoder's output; `PADDING_LOGIT` for padding ids.

    Args:
      matrix: the `output_matrix` of a model of this configuration.
    """
    product_of = product_with_transposed if config.tie_embeddings else product
    logits_BTV = product_of(hidden_BTD, matrix.astype(config.compute_dtype))
    return mask_padding_ids(logits_BTV, config.vocab_size)


class Embedding(nnx.Module):
    """The token embedding [V, D], shared by encoder, decoder and, if tied, the output projection."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        shape = config.padded_vocab_size, config.embed_dim
        self.tokens = nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape))
        self.scale = config.embed_dim**0.5 if config.scale_embedding else 1.0

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """Embeddings, float32 [B, T, D]; gradients of repeated tokens are therefore summed in float32."""
        return self.tokens[tokens_BT] * self.scale


class EncoderDecoder(nnx.Module):
    """BART, mBART or a modern encoder-decoder, as configured.

    Token ids, segment ids and positions are int32; segment id 0 is padding. Without dropout keys the model is
    deterministic. `placement` defaults to a single device with plain attention.
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
        embedding_key: jax.Array | None = None,
        layers_key: jax.Array | None = None,
        placement: Placement = SINGLE_DEVICE,
    ) -> jax.Array:
        """The encoder's output, [B, S, D] in the compute dtype. The keys are for dropout."""
        x_BSD = self.encoder.embed(self.embedding(tokens_BS), positions_BS, embedding_key)
        inputs = segment_ids_BS, self.encoder.cos_sin(positions_BS)
        return self.encoder.run(x_BSD, *inputs, dropout_key=layers_key, placement=placement)

    def decode(
        self,
        tokens_BT: jax.Array,
        segment_ids_BT: jax.Array,
        positions_BT: jax.Array,
        encoded_BSD: jax.Array,
        encoder_segment_ids_BS: jax.Array,
        *,
        embedding_key: jax.Array | None = None,
        layers_key: jax.Array | None = None,
        placement: Placement = SINGLE_DEVICE,
    ) -> jax.Array:
        """The decoder's output, [B, T, D] in the compute dtype. The keys are for dropout."""
        x_BTD = self.decoder.embed(self.embedding(tokens_BT), positions_BT, embedding_key)
        inputs = segment_ids_BT, self.decoder.cos_sin(positions_BT), encoded_BSD, encoder_segment_ids_BS
        return self.decoder.run(x_BTD, *inputs, dropout_key=layers_key, placement=placement)

    def logits(self, hidden_BTD: jax.Array) -> jax.Array:
        """Logits over the vocabulary, [B, T, V] in the compute dtype; `PADDING_LOGIT` for padding ids.

        Raises:
          ValueError: the model has a classification head instead.
        """
        if self.config.num_classes is not None:
            raise ValueError(
                f"num_classes={self.config.num_classes}: this model predicts classes, not tokens; "
                "use one without a classification head"
            )
        return vocabulary_logits(self.config, self.output_matrix, hidden_BTD)

    @property
    def output_matrix(self) -> jax.Array:
        """What `vocabulary_logits` multiplies by, float32: [V, D] with tied embeddings, else [D, V]."""
        return (self.embedding.tokens if self.config.tie_embeddings else self.output.kernel)[...]

    def hidden(
        self,
        batch: Mapping[str, jax.Array],
        *,
        dropout_key: jax.Array | None = None,
        placement: Placement = SINGLE_DEVICE,
    ) -> jax.Array:
        """The decoder's output for a batch, [B, T, D] in the compute dtype; arguments as for a call."""
        keys = named_keys(dropout_key, *_DROPOUT_KEYS)
        encoder_segments_BS = batch["encoder_segment_ids"]
        encoded_BSD = self.encode(
            batch["encoder_input_tokens"],
            encoder_segments_BS,
            batch["encoder_positions"],
            embedding_key=keys["encoder_embedding"],
            layers_key=keys["encoder_layers"],
            placement=placement,
        )
        return self.decode(
            batch["decoder_input_tokens"],
            batch["decoder_segment_ids"],
            batch["decoder_positions"],
            encoded_BSD,
            encoder_segments_BS,
            embedding_key=keys["decoder_embedding"],
            layers_key=keys["decoder_layers"],
            placement=placement,
        )

    def __call__(
        self,
        batch: Mapping[str, jax.Array],
        *,
        dropout_key: jax.Array | None = None,
        placement: Placement = SINGLE_DEVICE,
    ) -> jax.Array:
        """Logits [B, T, V] in the compute dtype or, with a classification head, float32 [B, T, C].

        The head is applied at every decoder position; the caller picks the last token of each segment.

        Args:
          batch: int32 `encoder_input_tokens`, `encoder_segment_ids`, `encoder_positions`, [B, S] each, and
            `decoder_input_tokens`, `decoder_segment_ids`, `decoder_positions`, [B, T] each.
          dropout_key: random key of all dropout in this pass; None: no dropout.
          placement: where activations live and how attention is computed.
        """
        hidden_BTD = self.hidden(batch, dropout_key=dropout_key, placement=placement)
        if self.config.num_classes is not None:
            key = named_keys(dropout_key, *_DROPOUT_KEYS)["classifier"]
            return placement.constrain(self.classifier(hidden_BTD, key), "classes")
        return placement.constrain(self.logits(hidden_BTD), "logits")


def init_params(config: ModelConfig, key: jax.Array) -> dict:
    """Freshly initialised float32 parameters as a nested dict.

    A pure function: jit it with `out_shardings` to initialise directly on a mesh.
    """
    model = EncoderDecoder(config, nnx.Rngs(key))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def _paths(params: Mapping) -> list[str]:
    return ["/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


@functools.lru_cache
def _definition(config: ModelConfig) -> tuple[nnx.GraphDef, list[str]]:
    graphdef, params = nnx.split(nnx.eval_shape(lambda: EncoderDecoder(config, nnx.Rngs(0))))
    return graphdef, _paths(nnx.to_pure_dict(params))


def bind_params(config: ModelConfig, params: Mapping, placement: Placement = SINGLE_DEVICE) -> EncoderDecoder:
    """The model with these parameters. Cheap: its definition is built once per configuration.

    All but the layers are gathered by `placement` here, before they are used more than once.

    Raises:
      ValueError: the names of the parameters do not match the configuration. (`nnx.merge` itself matches
        parameters by their order alone.)
    """
    graphdef, expected = _definition(config)
    found = _paths(params)
    if found != expected:
        missing, unexpected = sorted({*expected} - {*found}), sorted({*found} - {*expected})
        raise ValueError(
            "parameters do not match the model configuration; "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
        )
    return nnx.merge(graphdef, placement.gather(params, ""))
