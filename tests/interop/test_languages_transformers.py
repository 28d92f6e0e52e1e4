"""mBART and mBART-50 folders: prompts in two languages and their outputs have the ids of Transformers."""

import json

import pytest

pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES as LANGUAGES
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as LANGUAGES_50

from denoise_jax.generation.prompts import encode_prompt, generate_ids
from denoise_jax.interop.import_folder import import_folder
from denoise_jax.runs.load_model import load_model
from tests.interop.helpers import random_model

pytestmark = pytest.mark.slow

TEXTS = ["We live in a house.", "Noise", "Sums, not averages, are printed"]
FRENCH = {"language": "fr_XX", "target_language": "ro_RO"}
# class, languages, names of tokens in config.json, our options, Transformers' field for the target language
CASES = {
    "mbart": (transformers.MBartTokenizer, LANGUAGES, {}, {}, None),
    "mbart en-ro": (transformers.MBartTokenizer, LANGUAGES, {"decoder_start_token_id": "ro_RO"}, {}, None),
    "mbart fr-ro": (transformers.MBartTokenizer, LANGUAGES, {}, FRENCH, "decoder_start_token_id"),
    "mbart from fr": (
        transformers.MBartTokenizer,
        LANGUAGES,
        {"decoder_start_token_id": "ro_RO"},
        {"language": "fr_XX"},
        None,
    ),
    "mbart50": (transformers.MBart50Tokenizer, LANGUAGES_50, {"decoder_start_token_id": "</s>"}, {}, None),
    "mbart50 fr-ro": (
        transformers.MBart50Tokenizer,
        LANGUAGES_50,
        {"decoder_start_token_id": "</s>"},
        FRENCH,
        "forced_bos_token_id",
    ),
}


def _pieces(texts):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_prompts_and_outputs_are_token_identical(case, speeches, tmp_path):
    tokenizer_class, languages, tokens, options, target_field = case
    pieces = [*_pieces(speeches[:1]), *((name, 0.0) for name in languages), ("<mask>", 0.0)]
    tokenizer = tokenizer_class(vocab=pieces, src_lang="en_XX", tgt_lang="ro_RO")
    fields = {field: tokenizer.convert_tokens_to_ids(name) for field, name in tokens.items()}
    folder, run = tmp_path / "folder", tmp_path / "run"
    random_model("mbart", vocab_size=len(tokenizer), **fields).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    import_folder(folder, run)
    model = load_model(run)
    own = model.config.generation.replace(max_new_tokens=10, num_beams=2, **options)
    prompts = [encode_prompt(model.vocabulary, text, own) for text in TEXTS]
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    source = {"src_lang": options["language"]} if options else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **source)
    hf_ids = model.vocabulary.hf_ids
    assert [hf_ids[prompt].tolist() for prompt in prompts] == tokenizer(TEXTS)["input_ids"]
    target = {target_field: tokenizer.convert_tokens_to_ids("ro_RO")} if target_field else {}
    for prompt, ((best, *_)) in zip(prompts, generate_ids(model, prompts, own), strict=True):
        ids = torch.tensor([hf_ids[prompt].tolist()])
        found = theirs.generate(ids, max_new_tokens=10, num_beams=2, **target)[0].tolist()[1:]
        end = found.index(2, 1) + 1 if 2 in found[1:] else None
        assert hf_ids[list(best.ids)].tolist() == found[:end]
