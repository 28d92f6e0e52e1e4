"""The configuration tree: typed, frozen and validated. No framework is imported here.

Every field states its unit. Values out of bounds and misspelt fields are rejected by name. A run's resolved
configuration is written as JSON to the run folder and to every checkpoint.
"""

from typing import Literal

from pydantic import Field, model_validator

from denoise_jax.config_section import Section
from denoise_jax.decoding_config import GenerationConfig


class ModelConfig(Section):
    """Architecture: BART (Lewis et al. 2019), mBART (Liu et al. 2020) or a modern encoder-decoder.

    The defaults are BART-base. mBART: norm_position="pre", scale_embedding=True. Modern: norm_position="pre",
    norm="rms", positions="rotary", gated_ffn=True, activation="silu", use_bias=False, embedding_norm=False.
    """

    vocab_size: int | None = Field(
        None, ge=1, description="Size of the vocabulary; None: filled in from the vocabulary of the run."
    )
    embed_dim: int = Field(768, ge=8, description="Width of the residual stream, D.")
    num_heads: int = Field(12, ge=1, description="Attention heads, H; must divide embed_dim.")
    ffn_dim: int = Field(3072, ge=8, description="Width of the feed-forward layer, F.")
    num_encoder_layers: int = Field(6, ge=1, description="Encoder layers.")
    num_decoder_layers: int = Field(6, ge=1, description="Decoder layers.")
    max_positions: int = Field(
        1024, ge=8, description="Longest row in tokens; the number of learned position embeddings."
    )
    positions: Literal["learned", "rotary"] = Field(
        "learned", description="Learned position embeddings (BART) or rotary positions (RoPE)."
    )
    rope_theta: float = Field(10_000.0, gt=1, description="Base of the rotary frequencies.")
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = Field(
        "gelu", description="Feed-forward activation; gelu is the exact (erf) form, as in BART."
    )
    gated_ffn: bool = Field(
        False, description="Gated feed-forward layer (GLU): a third linear map as the gate."
    )
    use_bias: bool = Field(True, description="Biases in all linear maps, as in BART.")
    norm: Literal["layer", "rms"] = Field("layer", description="LayerNorm (BART) or RMSNorm.")
    norm_position: Literal["post", "pre"] = Field(
        "post", description="post: normalise after each residual sum (BART); pre: before each block (mBART)."
    )
    embedding_norm: bool = Field(True, description="Normalise the summed embeddings, as in BART.")
    scale_embedding: bool = Field(
        False, description="Multiply token embeddings by sqrt(embed_dim), as mBART."
    )
    tie_embeddings: bool = Field(True, description="Use the token embedding as the output projection.")
    vocab_multiple: int = Field(
        128,
        ge=1,
        description="The token embedding is padded to a multiple of this; padding ids are never predicted.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on embeddings and residual branches.")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on attention weights.")
    activation_dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after the feed-forward activation."
    )
    encoder_layer_drop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="LayerDrop: probability that a step skips an encoder layer, for the whole batch.",
    )
    decoder_layer_drop: float = Field(0.0, ge=0, lt=1, description="LayerDrop for decoder layers.")
    num_classes: int | None = Field(
        None,
        ge=2,
        description="Classes of a classification head on the decoder's last token; None: predict tokens.",
    )
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in the classification head.")
    init_std: float = Field(0.02, gt=0, le=1, description="Standard deviation of the initial weights.")
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Dtype of activations and matrix products; parameters are always float32."
    )
    scan_layers: bool = Field(
        True,
        description="Scan over the stacked layers (compile time does not grow with depth) or unroll them.",
    )
    remat: Literal["none", "full", "attention", "dots"] = Field(
        "full",
        description="What the backward pass recomputes: nothing, whole layers, all but attention, or all but "
        "attention and matrix products.",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}")
        if self.positions == "rotary" and self.embed_dim // self.num_heads % 2:
            raise ValueError(
                f"positions='rotary' needs an even head width, but embed_dim={self.embed_dim} / "
                f"num_heads={self.num_heads} is odd"
            )
        return self

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token embedding, V: `vocab_size` rounded up to a multiple of `vocab_multiple`.

        Raises:
          ValueError: `vocab_size` has not been filled in yet.
        """
        if self.vocab_size is None:
            raise ValueError("model.vocab_size is not set; fill it in from the vocabulary, as train() does")
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


class DataConfig(Section):
    """The text of a run, and how it is chunked and packed. Lengths are in tokens and include </s>."""

    task: str | None = Field(
        None,
        description="SeqIO task or mixture, which also defines the noise; None: imported weights.",
    )
    task_modules: tuple[str, ...] = Field(
        ("tasks",), description="Python modules to import, so that they register their tasks."
    )
    vocabulary: str | None = Field(
        None, description="Folder or .model file of the vocabulary; None: that of training.init_from."
    )
    batch_size: int = Field(
        ge=1, description="Rows per optimizer step, summed over hosts and accumulation steps."
    )
    input_length: int = Field(
        ge=8, description="Encoder tokens per row; text infilling at 0.3 needs about 0.8 of target_length."
    )
    target_length: int = Field(ge=8, description="Decoder tokens per row.")
    chunk_length: int | None = Field(
        None,
        ge=8,
        description="Longest chunk of a document, which is split at sentence ends; None: target_length.",
    )
    pack: bool = Field(True, description="Pack several examples into a row, separated by segment ids.")
    shards: int = Field(
        1,
        ge=1,
        description="Logical data shards, fixed for the life of a run; a multiple of the number of hosts.",
    )
    tokens_per_step: int | None = Field(
        None,
        ge=1,
        description="Tokens of clean text per step, from which noise schedules infer the step when rows are "
        "packed; None: batch_size * target_length. If the decoder predicts the whole text, the true value is "
        "train/tokens divided by log_every in metrics.jsonl.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the data order and of the noise.")

    @model_validator(mode="after")
    def _lengths_fit(self):
        if self.chunk_length is not None and self.chunk_length > self.target_length:
            raise ValueError(
                f"chunk_length={self.chunk_length} is above target_length={self.target_length}: "
                "a chunk would not fit in a row"
            )
        if self.batch_size % self.shards:
            raise ValueError(f"shards={self.shards} does not divide batch_size={self.batch_size}")
        return self

    @property
    def max_chunk_length(self) -> int:
        """Longest chunk of a document in tokens, including its special tokens."""
        return self.chunk_length or self.target_length


class OptimizerConfig(Section):
    """Optimizer and learning-rate schedule. Steps are optimizer steps."""

    name: Literal["adamw", "adafactor"] = Field("adamw", description="Optimizer.")
    learning_rate: float = Field(4e-4, gt=0, le=1, description="Peak learning rate.")
    warmup_steps: int = Field(10_000, ge=0, description="Steps of linear warm-up to the peak.")
    schedule: Literal["polynomial", "cosine", "inverse_sqrt", "constant"] = Field(
        "polynomial", description="Decay after the warm-up, until training.num_steps."
    )
    final_learning_rate: float = Field(
        0.0, ge=0, le=1, description="Learning rate at the end of the polynomial and cosine schedules."
    )
    polynomial_power: float = Field(
        1.0, gt=0, le=10, description="Power of the polynomial decay; 1 is linear, as in BART."
    )
    b1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay rate of the first moment.")
    b2: float = Field(0.999, ge=0, lt=1, description="AdamW: decay rate of the second moment.")
    first_moment_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="AdamW: how the first moment is stored; bfloat16 saves 2 bytes a parameter."
    )
    eps: float = Field(1e-8, gt=0, le=1, description="AdamW: added to the square root of the second moment.")
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Decoupled weight decay of matrices; norms and biases are not decayed."
    )
    clip_norm: float | None = Field(
        0.1, gt=0, description="Gradients are clipped to this global norm; None: no clipping."
    )

    @model_validator(mode="after")
    def _ends_below_the_peak(self):
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate} is above learning_rate={self.learning_rate}"
            )
        return self


class LossConfig(Section):
    """Terms of the training objective besides cross-entropy."""

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Probability mass spread evenly over the vocabulary."
    )
    z_loss: float = Field(
        0.0, ge=0, le=1, description="Weight of the squared log-partition function (PaLM uses 1e-4)."
    )
    blocks: int = Field(
        1,
        ge=1,
        description="Parts of a row whose logits are computed one after another, with their gradient: less "
        "memory where the vocabulary is large.",
    )


class ParallelConfig(Section):
    """Sizes of the mesh axes, whose product must be the number of devices."""

    data: int = Field(
        -1,
        ge=-1,
        description="Devices that replicate the parameters and split the batch; -1: all remaining devices.",
    )
    fsdp: int = Field(1, ge=1, description="Devices that shard the parameters and split the batch.")
    tensor: int = Field(
        1, ge=1, description="Devices that split attention heads, feed-forward width and vocabulary."
    )
    shard_moments: bool = Field(
        True, description="Also shard optimizer moments over the data axis (ZeRO-1) where it divides them."
    )
    attention: Literal["auto", "plain", "fused", "splash", "cudnn"] = Field(
        "auto",
        description="How attention is computed: the fastest way for the hardware, plain matrix products, our "
        "kernel or JAX's for TPUs, or NVIDIA's.",
    )

    @model_validator(mode="after")
    def _data_is_count_or_rest(self):
        if self.data == 0:
            raise ValueError(
                "data=0 is not a mesh axis size: give a positive number, or -1 for all remaining devices"
            )
        return self


class TrainingConfig(Section):
    """Length of the run, checkpoints, validation and logging. Steps are optimizer steps."""

    num_steps: int = Field(ge=1, description="Optimizer steps of the whole run.")
    accumulation_steps: int = Field(
        1, ge=1, description="Microbatches whose gradients are summed for one optimizer step."
    )
    log_every: int = Field(100, ge=1, description="Steps between log lines.")
    save_every: int = Field(
        1000, ge=1, description="Steps between checkpoints; the last step is always saved."
    )
    keep_checkpoints: int = Field(3, ge=1, description="How many of the newest checkpoints are kept.")
    keep_every: int | None = Field(
        None, ge=1, description="Checkpoints at multiples of this step are never deleted."
    )
    keep_best: int = Field(0, ge=0, description="Checkpoints with the best validation that are kept too.")
    best_metric: Literal["loss", "hidden_accuracy", "accuracy"] = Field(
        "loss", description="Metric of the validation that keep_best compares; of loss, lower is better."
    )
    nonfinite: Literal["stop", "skip"] = Field(
        "stop",
        description="If the loss, gradient or update is not finite: stop the run, or skip the update.",
    )
    max_skipped_updates: int = Field(
        10, ge=1, description="With nonfinite=skip, the run stops after more skipped updates in a row."
    )
    watchdog_minutes: float = Field(
        30.0,
        ge=0,
        description="Without progress for so long, a run ends with exit code 75, to be restarted; 0: never.",
    )
    evaluate_every: int = Field(1000, ge=0, description="Steps between validations; 0: no validation.")
    init_from: str | None = Field(
        None,
        description="Run or checkpoint to warm-start from: its parameters, architecture and vocabulary.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the initial parameters and of dropout.")
    writers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",), description="Where metrics are written besides metrics.jsonl."
    )


class EvaluationConfig(Section):
    """Evaluation. Its noise is fixed, so that results compare across checkpoints and runs."""

    validation_split: str = Field("validation", description="Split evaluated during training.")
    split: str = Field("test", description="Default split of `denoise-jax evaluate`.")
    batch_size: int | None = Field(None, ge=1, description="Rows per batch; None: data.batch_size.")
    max_batches: int | None = Field(
        None, ge=1, description="Batches evaluated during training; None: the whole split."
    )


class Config(Section):
    """A complete run."""

    name: str = Field(min_length=1, description="Name of this configuration in tables and plots.")
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    parallel: ParallelConfig = ParallelConfig()
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _sections_agree(self):
        if self.data.vocabulary is None and self.training.init_from is None:
            raise ValueError("data.vocabulary is needed unless training.init_from is given")
        longest = max(self.data.input_length, self.data.target_length)
        if longest > self.model.max_positions:
            raise ValueError(
                f"model.max_positions={self.model.max_positions} is below the longest row, {longest} tokens"
            )
        if self.model.num_classes and self.data.target_length < self.data.input_length:
            raise ValueError(
                f"data.target_length={self.data.target_length} is below data.input_length="
                f"{self.data.input_length}: with model.num_classes the decoder also reads the inputs"
            )
        if self.data.batch_size % self.training.accumulation_steps:
            raise ValueError(
                f"training.accumulation_steps={self.training.accumulation_steps} does not divide "
                f"data.batch_size={self.data.batch_size}"
            )
        if self.data.target_length % self.loss.blocks:
            raise ValueError(
                f"loss.blocks={self.loss.blocks} does not divide data.target_length={self.data.target_length}"
            )
        if self.model.num_classes and self.loss.blocks > 1:
            raise ValueError(
                f"loss.blocks={self.loss.blocks}: a classification head has no logits to split; use 1"
            )
        schedule_ends = self.optimizer.schedule in ("polynomial", "cosine")
        if schedule_ends and self.optimizer.warmup_steps >= self.training.num_steps:
            raise ValueError(
                f"optimizer.warmup_steps={self.optimizer.warmup_steps} leaves no steps for the "
                f"{self.optimizer.schedule} decay: training.num_steps={self.training.num_steps}"
            )
        return self
