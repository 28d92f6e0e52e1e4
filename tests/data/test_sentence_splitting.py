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
    "no-break spaces": ("One.\u00a0Two.\u202fThree.\u3000Four.", ["One.", "Two.", "Three.", "Four."]),
    "no-break initials": ("J.\u00a0R. Smith came.", ["J.\u00a0R. Smith came."]),
    "white space around": ("\u00a0One. \u00a0\n\u3000Two.\u00a0", ["One.", "Two."]),
    "german quotes": ("Sie kam. „Darf ich?“ Er ging.", ["Sie kam.", "„Darf ich?“", "Er ging."]),
    "german guillemets": ("Er rief. »Komm!« ‚Ja.‘ Sie ging.", ["Er rief.", "»Komm!«", "‚Ja.‘", "Sie ging."]),
    "french guillemets": (
        "Il vint.\u00a0«\u00a0Oui\u00a0!\u00a0» Elle partit. « Non. » Fin.",
        ["Il vint.", "«\u00a0Oui\u00a0!\u00a0»", "Elle partit.", "« Non. »", "Fin."],
    ),
    "swedish quotes": ("Han gick. ”Nej!” Hon kom.", ["Han gick.", "”Nej!”", "Hon kom."]),
    "closed abbreviation": ("(Cats, dogs, etc.) Then rain.", ["(Cats, dogs, etc.)", "Then rain."]),
    "part of a word": ("Un idéal. Une vie.", ["Un idéal.", "Une vie."]),
    "numbered pages": ("See p. 5 and pp. 7. On S. 9 too.", ["See p. 5 and pp. 7.", "On S. 9 too."]),
    "no is not a number": ("Is it? No. I am.", ["Is it?", "No.", "I am."]),
    "spaced letters": ("Tiere, z. B. Hunde, d. h. Haustiere.", ["Tiere, z. B. Hunde, d. h. Haustiere."]),
    "the era": ("Es war 44 v. Chr. Caesars Ende.", ["Es war 44 v. Chr. Caesars Ende."]),
    "the hour": ("It was 5 p.m. The bell rang.", ["It was 5 p.m.", "The bell rang."]),
    "german abbreviations": (
        "Hr. Dr. Ott zahlt ca. 5 Mio. Euro. Gut.",
        ["Hr. Dr. Ott zahlt ca. 5 Mio. Euro.", "Gut."],
    ),
    "german dates": (
        "Am 3. Oktober. Am 3. 10. 1990. Der 1. Mai kam.",
        ["Am 3. Oktober.", "Am 3. 10. 1990.", "Der 1. Mai kam."],
    ),
    "german ordinals": (
        "Das 19. Jahrhundert und 24. Dezember. Er hat 3. Sie auch.",
        ["Das 19. Jahrhundert und 24. Dezember.", "Er hat 3.", "Sie auch."],
    ),
    "full-width decimals": ("価格は３．５円です。安い．はい", ["価格は３．５円です。", "安い．", "はい"]),
    "titles": ("我读《你好吗？》这本书。好！", ["我读《你好吗？》这本书。", "好！"]),
    "titles in brackets": ("他看〈谁？！〉了。“好？”》吗", ["他看〈谁？！〉了。", "“好？”》吗"]),
    "burmese": ("သူလာသည်။ သူသွားသည်။နေသည်။", ["သူလာသည်။", "သူသွားသည်။", "နေသည်။"]),
    "khmer": ("គាត់មក។ ផ្លែឈើ។ល។ គាត់ទៅ៕", ["គាត់មក។", "ផ្លែឈើ។ល។ គាត់ទៅ៕"]),
    "ethiopic": ("እሱ መጣ። እሷ ሄደች፧ አዎ።", ["እሱ መጣ።", "እሷ ሄደች፧", "አዎ።"]),
    "armenian": ("Նա եկավ։ Ժամը 10։30 է։ «Այո։» Վերջ։", ["Նա եկավ։", "Ժամը 10։30 է։", "«Այո։»", "Վերջ։"]),
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
