"""Random little BART and mBART folders of Hugging Face, made by transformers itself."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # BART's ids 0 to 3
ORDER = [1, 2, 3, 0]  # the same as padding, </s>, unknown, <s>


@pytest.fixture(scope="session")
def bpe_tokenizer(speeches: list[str]):
    """A byte-level BPE tokenizer of 331 tokens with BART's ids, the mask last, and two languages before it.

    It frames texts as <s> ... </s>.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=328, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(speeches[:1], trainer)
    languages = [AddedToken(name, special=True) for name in ("en_XX", "ro_RO")]
    tokenizer.add_special_tokens([*languages, AddedToken("<mask>", special=True, lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


@pytest.fixture(scope="session")
def vocab_size(bpe_tokenizer) -> int:
    """Tokens of `bpe_tokenizer`; no multiple of 128, to which our table is padded."""
    return bpe_tokenizer.get_vocab_size()


@pytest.fixture(scope="session")
def hf_ids(vocab_size: int) -> np.ndarray:
    """Hugging Face's id of each of ours: padding, </s>, unknown, <s>, and the others in their order."""
    return np.array([*ORDER, *range(4, vocab_size)], np.int32)


@pytest.fixture(scope="session")
def random_model(vocab_size: int) -> Callable:
    """random_model(model_type="bart", head="ForConditionalGeneration", seed=0, **fields of config.json).

    Every weight is random and large (normal, deviation 0.3; around 1 in norms), so that outputs differ. Where
    the output is not tied, both sides still read one token table. In evaluation mode.
    """

    def make(model_type: str = "bart", head: str = "ForConditionalGeneration", seed: int = 0, **fields):
        import torch
        import transformers

        config_class, beginning = {
            "bart": (transformers.BartConfig, "Bart"),
            "mbart": (transformers.MBartConfig, "MBart"),
        }[model_type]
        sizes = {"d_model": 16, "max_position_embeddings": 40, "vocab_size": vocab_size}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 24}
        model = getattr(transformers, beginning + head)(config_class(**sizes | fields)).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.normal_(0, 0.3, generator=generator)
                if weight.ndim == 1 and "norm" in name and name.endswith("weight"):
                    weight.add_(1)
            for side in (model.model.encoder, model.model.decoder):
                side.embed_tokens.weight.copy_(model.model.shared.weight)
        return model

    return make


@pytest.fixture(scope="session")
def save_folder(bpe_tokenizer) -> Callable[..., Path]:
    """save_folder(folder, model, generation=None, **options of save_pretrained): with the tokenizer too.

    `generation`: the content of generation_config.json, in place of what transformers writes.
    """

    def save(folder: Path, model, generation: dict | None = None, **options) -> Path:
        import transformers

        model.save_pretrained(folder, **options)
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=bpe_tokenizer,
            bos_token="<s>",
            pad_token="<pad>",
            eos_token="</s>",
            unk_token="<unk>",
            mask_token="<mask>",
            model_max_length=40,
        ).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def edit_json() -> Callable[..., None]:
    """edit_json(file, **values): sets values in a JSON file; None takes one out."""

    def edit(file: Path, **values) -> None:
        content = {**json.loads(file.read_text()), **values}
        file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return edit
