"""The quick-start model learns to answer cloze questions with words of their context, text-to-text.

Command:   denoise-jax train finetune_qa --workdir RUN
           denoise-jax evaluate RUN --predict
           Another model: --training.init-from RUN. Another task: --data.task NAME, such as SQuAD by
           `question_answering` and `scores.squad` (see denoise_jax/data/finetuning.py).
Hardware:  two CPU cores, about ten minutes beside other work.
Result:    from runs/quickstart, on the test split (431 questions), 2 beams: exact match .065, F1 .149,
           validation loss 2.33. The same steps from random parameters: .019, .044, 4.32. So small a model
           does not learn to look an answer up in a thousand steps: this shows the way, no more.
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
    """Shape and vocabulary are those of `training.init_from`; only dropout and layout are set here."""
    return Config(
        name="finetune_qa",
        model=ModelConfig(
            max_positions=128,
            dropout=0.05,
            compute_dtype="float32",
            scan_layers=False,
            remat="none",
        ),
        data=DataConfig(task="quickstart_cloze_qa", batch_size=12, input_length=128, target_length=32),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=30, weight_decay=0.01, b2=0.98, clip_norm=1.0
        ),
        training=TrainingConfig(
            init_from="runs/quickstart", num_steps=1000, log_every=50, save_every=500, evaluate_every=500
        ),
        generation=GenerationConfig(max_new_tokens=24, num_beams=2),
    )
