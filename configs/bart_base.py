"""BART-base: 6+6 layers of width 768, 139 M parameters with a 50k vocabulary.

Command:   denoise-jax train bart_base --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  written for one TPU v5e-8 or larger; the batch is 2048 rows of 512 tokens, as many tokens as the
           paper's 8000 sequences would be after packing at a mean length of 130.
Result:    not yet run.
"""

from denoise_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainingConfig


def config() -> Config:
    """Base shape, with the published optimizer settings (Lewis et al. 2019; fairseq's released command)."""
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
