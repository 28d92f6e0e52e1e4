"""Where two configurations differ."""

from pydantic import BaseModel

from denoise_jax.config import Config


def differences(old: Config, new: Config) -> dict[str, tuple[object, object]]:
    """The fields whose values differ, by dotted name, each with (old, new)."""
    before, after = flattened(old), flattened(new)
    return {name: (value, after[name]) for name, value in before.items() if value != after[name]}


def flattened(config: Config) -> dict[str, object]:
    """All fields by dotted name, such as `model.dropout`."""
    sections = {name: value for name, value in config if isinstance(value, BaseModel)}
    fields = {f"{name}.{field}": value for name, section in sections.items() for field, value in section}
    return {"name": config.name, **fields}
