"""BART-base: 6+6 layers of width 768, 139 M parameters with a 50k vocabulary.

Command:   denoise-jax train bart_base --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  meant for a TPU v5e-8 or larger. The batch of 2048 rows of 512 tokens equals the paper's 8000
           sequences if these have 130 tokens on average.
Result:    not yet run. `denoise-jax plan` estimates 54 % MFU on a v5e chip: see docs/benchmarks.md.
"""

from denoise_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig


def config() -> Config:
    """BART-base with the published optimizer settings (Lewis et al. 2019; the command in fairseq)."""
    return Config(
        name="bart_base",
        model=ModelConfig(scan_layers=False, remat="none", attention_dropout=0.1),
        data=DataConfig(
            task="quickstart",
            vocabulary="vocabularies/quickstart",
            batch_size=2048,
            input_length=448,
            target_length=512,
            shards=64,
        ),
        optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=10_000, eps=1e-6, clip_norm=0.1),
        training=TrainingConfig(num_steps=500_000, save_every=5_000, keep_every=50_000, evaluate_every=5_000),
    )
