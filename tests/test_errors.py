"""Hints for misspelt names."""

from denoise_jax.errors import nearest


def test_close_names_are_suggested_and_otherwise_all_are_listed():
    known = ["quickstart", "bart_base", "bart_large"]
    assert nearest("quickstrat", known) == "did you mean quickstart?"
    assert nearest("bart_bases", known) == "did you mean bart_base or bart_large?"
    assert nearest("t5", known, otherwise="see --help") == "see --help"
    assert nearest("t5", iter(known)) == "choose from quickstart, bart_base, bart_large"
