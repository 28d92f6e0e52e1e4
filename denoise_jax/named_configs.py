"""Configurations by name."""

from denoise_jax import user_packages
from denoise_jax.config import Config
from denoise_jax.errors import ConfigError, UserError, nearest
from denoise_jax.paths import to_path
from denoise_jax.validation import validated


def load_config(name: str) -> Config:
    """The configuration `name`.

    Args:
      name: a module in `configs/`, ours or in the working directory ("quickstart"); a dotted module with a
        function `config()` ("my_package.my_run"); or the path of a JSON file ("runs/mine/config.json").

    Raises:
      ConfigError: no such configuration (the message names similar ones), or an invalid one.
    """
    if name.endswith(".json"):
        if not to_path(name).is_file():
            raise ConfigError(f"no configuration file {name}")
        return validated(
            lambda: Config.model_validate_json(to_path(name).read_bytes()), f"configuration {name}: "
        )
    known = user_packages.module_names("configs")
    if name not in known and "." not in name:
        raise ConfigError(f"there is no configuration {name!r}; {nearest(name, known)}")
    try:
        module = user_packages.import_module(f"configs.{name}" if name in known else name)
        config = validated(module.config, f"configuration {name}: ")
        if not isinstance(config, Config):
            raise TypeError(f"config() returned {type(config).__name__}, not a Config")
        return config
    except UserError:
        raise
    except Exception as error:  # a user's module can raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"configuration {name!r}: {reason}; give a module that defines config()") from None
