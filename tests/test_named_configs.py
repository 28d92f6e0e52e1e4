"""Configurations are found by name, by module and by file; an invalid one is a ConfigError in one line."""

import json

import pytest
from pydantic import ValidationError

from configs import quickstart
from denoise_jax.config import Config
from denoise_jax.errors import ConfigError
from denoise_jax.named_configs import load_config
from denoise_jax.validation import explain


def test_a_configuration_by_name_by_module_and_by_file(tmp_path):
    (tmp_path / "config.json").write_text(quickstart.config().model_dump_json())
    for name in ("quickstart", "configs.quickstart", str(tmp_path / "config.json")):
        assert load_config(name) == quickstart.config()


REFUSED = {
    "typo": ("quickstrat", "there is no configuration 'quickstrat'; did you mean quickstart?"),
    "no module": ("no_such.module", "configuration 'no_such.module': ModuleNotFoundError"),
    "no config()": ("json.decoder", "give a module that defines config()"),
    "no file": ("nowhere.json", "no configuration file nowhere.json"),
    "no JSON": ("broken.json", "configuration broken.json: invalid JSON"),
    "unknown field": (
        "unknown.json",
        "configuration unknown.json: model.depth: extra inputs are not permitted",
    ),
}


@pytest.mark.parametrize(("name", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = quickstart.config().model_dump()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "unknown.json").write_text(json.dumps({**values, "model": {**values["model"], "depth": 3}}))
    with pytest.raises(ConfigError) as raised:
        load_config(name)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_error_names_each_field_its_bound_and_its_value():
    values = quickstart.config().model_dump()
    values["model"]["dropout"], values["data"]["batch_size"] = 1.5, "many"
    with pytest.raises(ValidationError) as raised:
        Config(**values)
    assert explain(raised.value) == (
        "model.dropout: input should be less than 1 (got 1.5); data.batch_size: input should be a valid "
        "integer, unable to parse string as an integer (got 'many')"
    )
