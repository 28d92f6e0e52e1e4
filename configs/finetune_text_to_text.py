"""Fine-tunes the quick-start model to name the century of two sentences of a speech, text-to-text.

Command:   denoise-jax train finetune_text_to_text --workdir RUN
           denoise-jax evaluate RUN --predict
           From another model: --training.init-from RUN. On another task: --data.task NAME, for any SeqIO task
           with `inputs` and `targets`.
Hardware:  two CPU cores, about six minutes on a busy machine.
Result:    accuracy .695 on the test split (1,430 examples) with greedy decoding, starting from
           runs/quickstart. From random parameters, in as many steps: .643. Always the most frequent century:
           .493.
"""

from denoise_jax.config import (
    Config,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)


def config() -> Config:
    """Architecture and vocabulary come from `training.init_from`; dropout and layout are set here."""
    return Config(
        name="finetune_text_to_text",
        model=ModelConfig(
            max_positions=128,
            dropout=0.1,
            compute_dtype="float32",
            scan_layers=False,
            remat="none",
        ),
        data=DataConfig(task="quickstart_century", batch_size=12, input_length=128, target_length=32),
        optimizer=OptimizerConfig(
            learning_rate=5e-4, warmup_steps=30, weight_decay=0.01, b2=0.98, clip_norm=1.0
        ),
        training=TrainingConfig(
            init_from="runs/quickstart", num_steps=300, log_every=25, save_every=300, evaluate_every=150
        ),
        generation=GenerationConfig(max_new_tokens=16),
    )
