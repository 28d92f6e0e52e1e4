"""Where sentences end, on ordinary and unusual text."""

import pytest
import tensorflow as tf

from denoise_jax.data.sentence_splitting import split_sentences

CASES = {
    "plain": ("One. Two! Three? Four… Five.", ["One.", "Two!", "Three?", "Four…", "Five."]),
    "abbreviations": ("Mr. Adams met Dr. No. 5 men came.", ["Mr. Adams met Dr. No. 5 men came."]),
    "initials": ("I saw J. Q. Adams. He left.", ["I saw J. Q. Adams.", "He left."]),
    "the pronoun": ("It was I. You know.", ["It was I.", "You know."]),
    "numbers": ("It cost 3.5 dollars. 7 men paid.", ["It cost 3.5 dollars.", "7 men paid."]),
    "quotes": ('"What?" he said. "No!" She left.', ['"What?" he said.', '"No!"', "She left."]),
    "curly quotes": ("“Go.” ‘Stay.’ (Why?) Yes.", ["“Go.”", "‘Stay.’", "(Why?)", "Yes."]),
    "ellipsis inside": ("Well... maybe. Then no.", ["Well... maybe.", "Then no."]),
    "runs": ("What?! No!!! Yes.", ["What?!", "No!!!", "Yes."]),
    "line breaks": ("A title\n\nA line\r\nthe end", ["A title", "A line", "the end"]),
    "spanish": ("El niño. ¿Qué? ¡Sí!", ["El niño.", "¿Qué?", "¡Sí!"]),
    "russian": ("Он ушёл. Она осталась.", ["Он ушёл.", "Она осталась."]),
    "chinese": ("今天很好。你呢？好！", ["今天很好。", "你呢？", "好！"]),
    "japanese brackets": ("「はい。」そうか。", ["「はい。」", "そうか。"]),
    "hindi": ("राम गया। सीता आई।", ["राम गया।", "सीता आई।"]),
    "arabic": ("هل جاء؟ نعم.", ["هل جاء؟", "نعم."]),
    "no end": ("no end at all", ["no end at all"]),
    "only stops": ("...", ["..."]),
    "marks of our own": ("a\x1eb\x1fc", ["a b c"]),
    "blank": ("  \n\t ", []),
    "empty": ("", []),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_sentences_end_where_expected(text, expected):
    found = [sentence.decode() for sentence in split_sentences(tf.constant(text)).numpy()]
    assert found == expected


def test_nothing_but_white_space_is_lost(speeches):
    for speech in speeches:
        sentences = [sentence.decode() for sentence in split_sentences(tf.constant(speech)).numpy()]
        assert "".join("".join(sentences).split()) == "".join(speech.split())
        assert 100 < len(sentences) < len(speech) / 40
