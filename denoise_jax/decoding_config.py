"""The section `generation` of the configuration."""

from typing import Literal

from pydantic import Field, model_validator

from denoise_jax.config_section import Section


class GenerationConfig(Section):
    """Decoding options, named as in Hugging Face. Tokens are given by name: ids depend on the vocabulary.

    `max_new_tokens` and `min_new_tokens` count generated tokens: </s> included, decoder start excluded.
    """

    max_new_tokens: int | None = Field(
        None, ge=1, description="Longest output in tokens; None: data.chunk_length."
    )
    min_new_tokens: int = Field(0, ge=0, description="</s> is not generated before this many tokens.")
    num_beams: int = Field(1, ge=1, description="Beams; 1: greedy decoding or sampling.")
    num_return_sequences: int = Field(1, ge=1, description="Outputs per prompt, best first.")
    length_penalty: float = Field(
        1.0,
        description="Beam search: scores are divided by length ** length_penalty; > 0 favours long outputs.",
    )
    early_stopping: bool | Literal["never"] = Field(
        False,
        description="Beam search: stop at num_beams finished outputs (true), when a better one is unlikely "
        "(false), or when a better one is impossible (never).",
    )
    no_repeat_ngram_size: int = Field(
        0, ge=0, description="No n-gram of this size occurs twice; 0: no limit."
    )
    start: str | None = Field(None, description="Decoder start token; None: that of the vocabulary.")
    language: str | None = Field(
        None,
        description="Language token of the prompt. In mBART it also starts the decoder, unless start or "
        "target_language is set.",
    )
    target_language: str | None = Field(
        None,
        description="Language token of the output: it starts the decoder in mBART, and is generated first in "
        "mBART-50. It takes precedence over start and forced_bos.",
    )
    forced_bos: str | None = Field(None, description="Token that is always generated first.")
    forced_eos: str | None = Field(
        None, description="Token that is generated last when the output reaches max_new_tokens."
    )
    do_sample: bool = Field(False, description="Sample instead of taking the most likely token.")
    temperature: float = Field(1.0, gt=0, description="Sampling: temperature.")
    top_k: int = Field(0, ge=0, description="Sampling: only the k most likely tokens; 0: all.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Sampling: only the most likely tokens that sum to this probability."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampling.")

    def first_tokens(self, language_opens: bool) -> tuple[str | None, str | None]:
        """(start, forced_bos) with the languages applied; see `Vocabulary.language_opens`."""
        if language_opens:
            return self.start, self.target_language or self.forced_bos
        return self.target_language or self.start or self.language, self.forced_bos

    @model_validator(mode="after")
    def _options_agree(self):
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"do_sample needs num_beams=1, not {self.num_beams}")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences} is above num_beams={self.num_beams}: "
                "raise num_beams or set do_sample"
            )
        return self
