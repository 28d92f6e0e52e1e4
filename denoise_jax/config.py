"""The typed configuration tree. Frozen, bounded, and nothing else: no framework is imported here.

Every field says its unit; a value out of bounds or a misspelt field is refused by name. A run's
resolved configuration is written as JSON into the run folder and into every checkpoint.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """Shape of the encoder-decoder: BART (Lewis et al. 2019), mBART (Liu et al. 2020), or a modern variant.

    BART is the default. mBART: norm_position="pre", scale_embedding=True. Modern: norm_position="pre",
    norm="rms", positions="rotary", gated_ffn=True, activation="silu", use_bias=False, embedding_norm=False.
    """

    embed_dim: int = Field(768, ge=8, description="Width of the residual stream, D.")
    num_heads: int = Field(12, ge=1, description="Attention heads, H; must divide embed_dim.")
    ffn_dim: int = Field(3072, ge=8, description="Width of the feed-forward layer, F.")
    num_encoder_layers: int = Field(6, ge=1, description="Encoder layers.")
    num_decoder_layers: int = Field(6, ge=1, description="Decoder layers.")
    max_positions: int = Field(
        1024, ge=8, description="Longest row, tokens: rows of each learned position table."
    )
    positions: Literal["learned", "rotary"] = Field(
        "learned", description="A table added to the embeddings (BART), or rotated queries and keys (RoPE)."
    )
    rope_theta: float = Field(
        10_000.0, gt=1, description="RoPE: wavelength of the slowest rotation over 2 pi, tokens."
    )
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = Field(
        "gelu", description="Feed-forward non-linearity; gelu is the exact (erf) form, as in BART."
    )
    gated_ffn: bool = Field(
        False, description="Feed-forward multiplies a second linear map into the activation (GLU)."
    )
    use_bias: bool = Field(True, description="Biases on all linear maps, as in BART.")
    norm: Literal["layer", "rms"] = Field("layer", description="Layer norm (BART) or RMSNorm.")
    norm_position: Literal["post", "pre"] = Field(
        "post", description="post: normalise after each residual sum (BART); pre: before each block (mBART)."
    )
    embedding_norm: bool = Field(True, description="Layer norm on the summed embeddings, as in BART.")
    scale_embedding: bool = Field(
        False, description="Multiply token embeddings by sqrt(embed_dim), as mBART."
    )
    tie_embeddings: bool = Field(
        True, description="Share the token table between encoder, decoder and output."
    )
    vocab_multiple: int = Field(
        128,
        ge=1,
        description="The token table is padded to a multiple of this; the padding is never predicted.",
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
        description="Chance that a step leaves an encoder layer out, for the whole batch.",
    )
    decoder_layer_drop: float = Field(0.0, ge=0, lt=1, description="The same for decoder layers.")
    num_classes: int | None = Field(
        None,
        ge=2,
        description="Classes of a head on the decoder's last token, in place of the vocabulary.",
    )
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout inside the classification head.")
    init_std: float = Field(0.02, gt=0, le=1, description="Standard deviation of the normal initialisation.")
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Dtype of activations and matmuls; parameters are float32 always."
    )
    scan_layers: bool = Field(
        True, description="Scan over the stacked layers (compile time flat in depth) or unroll them."
    )
    remat: Literal["none", "full", "dots"] = Field(
        "full",
        description="What the backward pass recomputes: nothing, whole layers, or all but matmul outputs.",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}")
        if self.positions == "rotary" and self.embed_dim // self.num_heads % 2:
            raise ValueError(
                f"positions='rotary' turns pairs of numbers, but embed_dim={self.embed_dim} over "
                f"num_heads={self.num_heads} is odd"
            )
        return self


class DataConfig(_Section):
    """Which text, cut and packed how. All lengths are tokens and count the closing </s>."""

    task: str | None = Field(
        None,
        description="SeqIO task or mixture; the task says which noise its text gets. None: imported weights.",
    )
    task_modules: tuple[str, ...] = Field(
        ("tasks",), description="Python modules imported first, so that they register their tasks."
    )
    vocabulary: str | None = Field(
        None, description="Folder or .model file of the vocabulary; None: that of training.init_from."
    )
    batch_size: int = Field(
        ge=1, description="Rows per optimizer step, over all hosts and accumulation steps."
    )
    input_length: int = Field(
        ge=8, description="Encoder tokens per row; infilling at 0.3 needs about 0.8 of the target."
    )
    target_length: int = Field(ge=8, description="Decoder tokens per row.")
    document_length: int | None = Field(
        None, ge=8, description="Longest piece of a document, cut at sentence ends; default: target_length."
    )
    pack: bool = Field(True, description="Put several pieces in a row, kept apart by segment ids.")
    shards: int = Field(
        1,
        ge=1,
        description="Logical data shards, fixed for the life of a run; a multiple of the number of hosts.",
    )
    tokens_per_step: int | None = Field(
        None,
        ge=1,
        description="Tokens of clean text in a step, by which schedules of the noise tell the time when "
        "packing; default: those of full rows. Where the decoder writes the whole text, train/tokens over "
        "log_every in metrics.jsonl is the true figure.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the data order and of the noise.")

    @model_validator(mode="after")
    def _lengths_fit(self):
        if self.document_length is not None and self.document_length > self.target_length:
            raise ValueError(
                f"document_length={self.document_length} is above target_length={self.target_length}: "
                "a piece would not fit in a row"
            )
        if self.batch_size % self.shards:
            raise ValueError(f"shards={self.shards} does not divide batch_size={self.batch_size}")
        return self

    @property
    def piece_length(self) -> int:
        """Longest piece of a document in tokens, with its closing </s>."""
        return self.document_length or self.target_length


class OptimizerConfig(_Section):
    """Update rule, learning-rate schedule and loss terms. Steps are optimizer steps."""

    name: Literal["adamw", "adafactor"] = Field("adamw", description="Update rule.")
    learning_rate: float = Field(4e-4, gt=0, le=1, description="Peak learning rate.")
    warmup_steps: int = Field(10_000, ge=0, description="Steps of linear warm-up to the peak.")
    schedule: Literal["polynomial", "cosine", "inverse_sqrt", "constant"] = Field(
        "polynomial", description="What follows the warm-up, until training.num_steps."
    )
    final_learning_rate: float = Field(0.0, ge=0, le=1, description="Where polynomial and cosine end.")
    polynomial_power: float = Field(1.0, gt=0, le=10, description="1 decays linearly, as in BART.")
    b1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the first moment.")
    b2: float = Field(0.999, ge=0, lt=1, description="AdamW: decay of the second moment.")
    eps: float = Field(1e-8, gt=0, le=1, description="AdamW: added to the root of the second moment.")
    weight_decay: float = Field(
        0.01, ge=0, le=1, description="Decoupled decay of matrices; norms and biases have none."
    )
    clip_norm: float | None = Field(0.1, gt=0, description="Largest global gradient norm; None: no clipping.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over the vocabulary."
    )
    z_loss: float = Field(
        0.0, ge=0, le=1, description="Weight of the squared log-partition, as in PaLM (1e-4 there)."
    )

    @model_validator(mode="after")
    def _ends_below_the_peak(self):
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate={self.final_learning_rate} is above learning_rate={self.learning_rate}"
            )
        return self


class ParallelConfig(_Section):
    """Mesh axes. Their product must be the number of devices; data = -1 takes what the others leave."""

    data: int = Field(
        -1, ge=-1, description="Devices that hold copies of the parameters and share the batch."
    )
    fsdp: int = Field(1, ge=1, description="Devices that shard parameters and share the batch.")
    tensor: int = Field(1, ge=1, description="Devices that split heads, feed-forward width and vocabulary.")
    shard_moments: bool = Field(
        True, description="Shard optimizer moments over the data axis too (ZeRO-1), where they divide."
    )

    @model_validator(mode="after")
    def _data_is_count_or_rest(self):
        if self.data == 0:
            raise ValueError(
                "data=0 is no mesh axis size: give a positive number, or -1 for all that is left"
            )
        return self


class TrainingConfig(_Section):
    """Length and rhythm of the run, in optimizer steps."""

    num_steps: int = Field(ge=1, description="Updates in the whole run.")
    accumulation_steps: int = Field(1, ge=1, description="Microbatches whose gradients make one update.")
    log_every: int = Field(100, ge=1, description="Steps between lines of metrics.")
    save_every: int = Field(
        1000, ge=1, description="Steps between checkpoints; the last step is always saved."
    )
    keep_checkpoints: int = Field(3, ge=1, description="Newest checkpoints kept.")
    keep_every: int | None = Field(
        None, ge=1, description="Checkpoints at multiples of this are kept for ever."
    )
    evaluate_every: int = Field(1000, ge=0, description="Steps between validations; 0: none during training.")
    init_from: str | None = Field(
        None,
        description="Run or checkpoint whose parameters a new run begins with, its shape and vocabulary too.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the initial parameters and of dropout.")
    writers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",), description="Where metrics go besides metrics.jsonl."
    )


class EvaluationConfig(_Section):
    """How checkpoints are measured: fixed noise, so that figures compare across checkpoints and runs."""

    validation_split: str = Field("validation", description="Split measured during training.")
    split: str = Field(
        "test", description="Split that `denoise-jax evaluate` measures unless told otherwise."
    )
    batch_size: int | None = Field(None, ge=1, description="Rows per batch; default: data.batch_size.")
    max_batches: int | None = Field(
        None, ge=1, description="Batches measured during training; None: the whole split."
    )


class GenerationConfig(_Section):
    """How text is generated, in the terms of Hugging Face. Tokens are named, since ids differ by vocabulary.

    `max_new_tokens` and `min_new_tokens` count what is written, the closing token too, but not the start.
    """

    max_new_tokens: int | None = Field(
        None, ge=1, description="Longest output, tokens; None: data.piece_length."
    )
    min_new_tokens: int = Field(0, ge=0, description="No </s> before so many tokens are written.")
    num_beams: int = Field(1, ge=1, description="Beams kept; 1: greedy, or sampling.")
    num_return_sequences: int = Field(1, ge=1, description="Outputs for each prompt, best first.")
    length_penalty: float = Field(
        1.0, description="Beams: scores are divided by length to this power; above 0 favours long outputs."
    )
    early_stopping: bool | Literal["never"] = Field(
        False,
        description="Beams: true ends a prompt at num_beams finished outputs, false where no better one is "
        "likely, never where none is possible.",
    )
    no_repeat_ngram_size: int = Field(0, ge=0, description="No n-gram of this size twice; 0: allowed.")
    start: str | None = Field(None, description="Token that starts the decoder; None: the vocabulary's.")
    language: str | None = Field(
        None,
        description="Token that closes the prompt and starts the decoder, as in mBART.",
    )
    forced_bos: str | None = Field(None, description="Token that is always written first.")
    forced_eos: str | None = Field(None, description="Token that is written where the output would be cut.")
    do_sample: bool = Field(False, description="Draw tokens instead of taking the likeliest.")
    temperature: float = Field(1.0, gt=0, description="Sampling: logits are divided by it.")
    top_k: int = Field(0, ge=0, description="Sampling: only the k likeliest tokens; 0: all.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Sampling: only the likeliest tokens that reach this probability."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampling.")

    @model_validator(mode="after")
    def _options_agree(self):
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"do_sample goes with num_beams=1, not {self.num_beams}")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences} is above num_beams={self.num_beams}: "
                "raise num_beams or set do_sample"
            )
        return self


class Config(_Section):
    """A complete run."""

    name: str = Field(min_length=1, description="What this configuration is called in tables and plots.")
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    parallel: ParallelConfig = ParallelConfig()
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _sections_agree(self):
        if self.data.vocabulary is None and self.training.init_from is None:
            raise ValueError("data.vocabulary is needed where no training.init_from is given")
        longest = max(self.data.input_length, self.data.target_length)
        if longest > self.model.max_positions:
            raise ValueError(
                f"model.max_positions={self.model.max_positions} is below the longest row, {longest} tokens"
            )
        if self.model.num_classes and self.data.target_length < self.data.input_length:
            raise ValueError(
                f"data.target_length={self.data.target_length} is below data.input_length="
                f"{self.data.input_length}: with model.num_classes the decoder reads the inputs too"
            )
        if self.data.batch_size % self.training.accumulation_steps:
            raise ValueError(
                f"training.accumulation_steps={self.training.accumulation_steps} does not divide "
                f"data.batch_size={self.data.batch_size}"
            )
        schedule_ends = self.optimizer.schedule in ("polynomial", "cosine")
        if schedule_ends and self.optimizer.warmup_steps >= self.training.num_steps:
            raise ValueError(
                f"optimizer.warmup_steps={self.optimizer.warmup_steps} leaves nothing of "
                f"training.num_steps={self.training.num_steps} for the {self.optimizer.schedule} decay"
            )
        return self


def load_json(text: str | bytes) -> Config:
    """Configuration from the JSON of a run or checkpoint; raises pydantic's ValidationError."""
    return Config.model_validate_json(text)


def differences(old: Config, new: Config) -> dict[str, tuple[object, object]]:
    """Dotted fields whose values differ, each with (old, new)."""
    changed: dict[str, tuple[object, object]] = {}
    before, after = old.model_dump(), new.model_dump()
    for section, value in before.items():
        if not isinstance(value, dict):
            if value != after[section]:
                changed[section] = (value, after[section])
            continue
        for field, field_value in value.items():
            if field_value != after[section][field]:
                changed[f"{section}.{field}"] = (field_value, after[section][field])
    return changed
