"""Small tokenizers like those of BART and mBART, as folders of Hugging Face and as vocabularies."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from denoise_jax.interop.tokenizer_import import from_huggingface

LANGUAGES = ("en_XX", "ro_RO")


def bart_tokenizer(texts: Iterable[str], size: int = 600, languages: Sequence[str] = ()) -> Tokenizer:
    """Byte-level BPE with BART's ids: <s> <pad> </s> <unk> first, <mask> last; <s> text </s>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(languages) - 1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    added = [AddedToken(name, special=True) for name in languages]
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    tokenizer.add_special_tokens([*added, mask])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def mbart_tokenizer(texts: Iterable[str], size: int = 500) -> Tokenizer:
    """Unigram with ▁ for spaces, like mBART's: text </s> en_XX."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", *LANGUAGES, "<mask>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s> en_XX", pair="$A $B </s> en_XX", special_tokens=[("</s>", 2), ("en_XX", 4)]
    )
    return tokenizer


def save_hf_folder(folder: Path, tokenizer: Tokenizer, model_type: str) -> Path:
    """Writes a folder as from Hugging Face with this tokenizer, and no weights."""
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(f'{{"model_type": "{model_type}", "eos_token_id": 2}}')
    return folder


def save_imported(hf_folder: Path, folder: Path) -> Path:
    """Writes the vocabulary folder that is imported from `hf_folder`."""
    folder.mkdir()
    for name, content in from_huggingface(hf_folder).files.items():
        (folder / name).write_bytes(content)
    return folder
