"""Small random BART and mBART folders from Hugging Face, with and without Transformers."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from denoise_jax.config import Config, ModelConfig
from denoise_jax.interop.model_config import write_model_config
from denoise_jax.interop.tensor_names import full_name, parts
from denoise_jax.interop.tokenizer_import import from_huggingface
from denoise_jax.model.transformer import init_params
from denoise_jax.runs.checkpoint import Checkpointer
from denoise_jax.vocabulary.load import load_vocabulary

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # BART's ids 0 to 3
VOCAB_SIZE = 331  # of `bart_like_tokenizer`; not a multiple of 128, to which our embedding is padded
HF_IDS = np.array([1, 2, 3, 0, *range(4, VOCAB_SIZE)], np.int32)  # the Hugging Face id of each of our ids

# generation_config.json of a model for summaries.
SETTINGS = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "num_beams": 4,
    "num_return_sequences": 1,
    "length_penalty": 2.0,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "max_length": 31,
    "min_length": 6,
    "do_sample": False,
}


def bart_like_tokenizer(texts: list[str], languages: Sequence[str] = ("en_XX", "ro_RO")) -> Tokenizer:
    """Byte-level BPE with 329 tokens and languages: BART's first four ids, text, languages, the mask.

    Texts are encoded as <s> ... </s>.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 3, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    symbols = [AddedToken(name, special=True) for name in languages]
    tokenizer.add_special_tokens([*symbols, AddedToken("<mask>", special=True, lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def write_folder(folder: Path, tokenizer: Tokenizer, generation: dict = SETTINGS, **fields) -> Path:
    """A Hugging Face folder with random weights, made without Transformers; `fields` of ModelConfig."""
    sizes = {"embed_dim": 16, "num_heads": 2, "ffn_dim": 24, "num_encoder_layers": 2, "num_decoder_layers": 2}
    config = ModelConfig(vocab_size=VOCAB_SIZE, max_positions=40, **{**sizes, **fields})
    described = write_model_config(config, HF_IDS, {"decoder_start_token_id": 2}, "float32")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(random_tensors(config, VOCAB_SIZE), folder / "model.safetensors")
    return folder


def random_tensors(config: ModelConfig, rows: int) -> dict[str, np.ndarray]:
    """Random Hugging Face tensors by name, for a token embedding with `rows` rows."""
    random = np.random.default_rng(0)
    return {full_name(p.name): random.standard_normal(p.shape, np.float32) for p in parts(config, rows)}


def import_tokenizer(source: Path, folder: Path) -> Path:
    """A vocabulary folder, made from the tokenizer in a Hugging Face folder."""
    folder.mkdir()
    for name, content in from_huggingface(source).files.items():
        (folder / name).write_bytes(content)
    return folder


def random_model(
    model_type: str = "bart",
    head: str = "ForConditionalGeneration",
    seed: int = 0,
    vocab_size: int = VOCAB_SIZE,
    **fields,
):
    """A model of Transformers in evaluation mode; `fields` of config.json.

    All weights are random and large (normal with deviation 0.3; around 1 in norms), so that outputs differ.
    If the output is not tied, encoder and decoder still share one token embedding.
    """
    import torch
    import transformers

    config_class, prefix = {
        "bart": (transformers.BartConfig, "Bart"),
        "mbart": (transformers.MBartConfig, "MBart"),
    }[model_type]
    sizes = {"d_model": 16, "max_position_embeddings": 40, "vocab_size": vocab_size}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 24}
    model = getattr(transformers, prefix + head)(config_class(**sizes | fields)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, 0.3, generator=generator)
            if weight.ndim == 1 and "norm" in name and name.endswith("weight"):
                weight.add_(1)
        for side in (model.model.encoder, model.model.decoder):
            side.embed_tokens.weight.copy_(model.model.shared.weight)
    return model


def save_folder(folder: Path, model, tokenizer: Tokenizer, generation: dict | None = None, **options) -> Path:
    """Saves a model of Transformers with its tokenizer; `options` of save_pretrained.

    `generation` replaces the contents of generation_config.json.
    """
    import transformers

    model.save_pretrained(folder, **options)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=40,
    ).save_pretrained(folder)
    return folder


def edit_json(file: Path, **values) -> None:
    """Sets values in a JSON file; None removes one."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def save_run(folder: Path, config: Config, vocabulary: Path, **fields) -> Path:
    """A run trained here, at step 5, with random parameters; `fields` of its model section."""
    config = config.replace(model={"init_std": 0.3, **fields})
    checkpoints = Checkpointer(folder / "checkpoints")
    checkpoints.save(
        5,
        {"params": init_params(config.model, jax.random.key(1))},
        config=config,
        vocabulary=load_vocabulary(vocabulary).files(),
        data={},
    )
    checkpoints.close()
    return folder
