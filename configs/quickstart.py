"""A small denoising model for American presidential speeches, 2.5 M parameters.

Command:   denoise-jax train quickstart --workdir RUN
Hardware:  two CPU cores and 2 GiB of memory; about six minutes if nothing else runs.
Result:    after 1.9 M target tokens, on the test split: accuracy .954 on visible and .193 on hidden tokens
           (most frequent token .056), perplexity 4.74.
"""

from denoise_jax.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)


def config() -> Config:
    """Pre-norm learns in fewer steps; with short chunks the model learns to copy soonest."""
    return Config(
        name="quickstart",
        model=ModelConfig(
            embed_dim=192,
            num_heads=4,
            ffn_dim=768,
            num_encoder_layers=2,
            num_decoder_layers=2,
            max_positions=128,
            norm_position="pre",
            dropout=0.0,
            compute_dtype="float32",
            scan_layers=False,
            remat="none",
            init_std=0.07,  # 1 / sqrt(192): with BART's 0.02 for width 768, copying is learnt far later
        ),
        data=DataConfig(
            task="quickstart",
            vocabulary="vocabularies/quickstart",
            batch_size=12,
            input_length=104,
            target_length=128,
            chunk_length=64,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3,
            warmup_steps=100,
            schedule="cosine",
            final_learning_rate=1e-5,
            b2=0.98,
            clip_norm=1.0,
        ),
        training=TrainingConfig(num_steps=1500, log_every=25, save_every=500, evaluate_every=250),
        evaluation=EvaluationConfig(max_batches=60),
    )
