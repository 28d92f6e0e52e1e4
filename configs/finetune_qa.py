"""Fine-tunes the quick-start model to answer cloze questions with words from their context, text-to-text.

Command:   denoise-jax train finetune_qa --workdir RUN
           denoise-jax evaluate RUN --predict
           From another model: --training.init-from RUN. On another task: --data.task NAME, such as SQuAD with
           `question_answering` and `string_metrics.squad` (see denoise_jax/data/finetuning.py).
Hardware:  two CPU cores, about ten minutes on a busy machine.
Result:    exact match .065, F1 .149 on the test split (431 questions) with 2 beams, starting from
           runs/quickstart; validation loss 2.33. From random parameters, in as many steps: .019, .044, 4.32.
           A model this small does not learn to look up answers in 1000 steps; this is only an example.
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
