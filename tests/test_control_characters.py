"""Nothing that is printed can move a terminal's cursor or reverse the direction of its text."""

import json
import unicodedata

from denoise_jax.control_characters import escape_controls


def test_controls_are_escaped_and_text_is_not():
    assert escape_controls("a\x1b[2Jb\u202ec\x9bd\r\x7f\udce9") == r"a\u001b[2Jb\u202ec\u009bd\r\u007f\udce9"
    text = "naïve – “日本”\tfünf\n\U0001f468\u200d\U0001f469"
    assert escape_controls(text) == text
    assert escape_controls("a\tb\n", keep="\n") == "a\\tb\n"


def test_escaped_json_is_the_same_json():
    value = {"every character, apart": " ".join(map(chr, range(0x110000)))}
    escaped = escape_controls(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(escaped) == value
    kept = {c for c in escaped if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert kept == set("\n\u200c\u200d\u00ad")
