"""Text shared by the tests of run folders."""

# The quick start's config.json as version 0.1.0 wrote it.
CONFIG_OF_0_1_0 = """{
    "name": "quickstart",
    "model": {"embed_dim": 192, "num_heads": 4, "ffn_dim": 768, "num_encoder_layers": 2,
    "num_decoder_layers": 2, "max_positions": 128, "positions": "learned", "rope_theta": 10000.0,
    "activation": "gelu", "gated_ffn": false, "use_bias": true, "norm": "layer", "norm_position":
    "pre", "embedding_norm": true, "scale_embedding": false, "tie_embeddings": true,
    "vocab_multiple": 128, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "encoder_layer_drop": 0.0, "decoder_layer_drop": 0.0, "num_classes": null, "classifier_dropout":
    0.0, "init_std": 0.07, "compute_dtype": "float32", "scan_layers": false, "remat": "none"},
    "data": {"task": "quickstart", "task_modules": ["tasks"], "vocabulary":
    "vocabularies/quickstart", "batch_size": 12, "input_length": 104, "target_length": 128,
    "document_length": 64, "pack": true, "shards": 1, "tokens_per_step": null, "seed": 0},
    "optimizer": {"name": "adamw", "learning_rate": 0.003, "warmup_steps": 100, "schedule":
    "cosine", "final_learning_rate": 1e-05, "polynomial_power": 1.0, "b1": 0.9, "b2": 0.98, "eps":
    1e-08, "weight_decay": 0.01, "clip_norm": 1.0, "label_smoothing": 0.0, "z_loss": 0.0},
    "parallel": {"data": -1, "fsdp": 1, "tensor": 1, "shard_moments": true},
    "training": {"num_steps": 1500, "accumulation_steps": 1, "log_every": 25, "save_every": 500,
    "keep_checkpoints": 3, "keep_every": null, "evaluate_every": 250, "init_from": null, "seed": 0,
    "writers": ["tensorboard"]},
    "evaluation": {"validation_split": "validation", "split": "test", "batch_size": null,
    "max_batches": 60},
    "generation": {"max_new_tokens": null, "min_new_tokens": 0, "num_beams": 1,
    "num_return_sequences": 1, "length_penalty": 1.0, "early_stopping": false,
    "no_repeat_ngram_size": 0, "start": null, "language": null, "forced_bos": null, "forced_eos":
    null, "do_sample": false, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 0}
}
"""
