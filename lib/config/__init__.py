"""The configuration of a run: every key with its type and range, YAML files and `KEY=VALUE` over the defaults."""

from lib.config.load import Config, ConfigError, default_config, load_config, lr_steps, to_dict

__all__ = ["Config", "ConfigError", "default_config", "load_config", "lr_steps", "to_dict"]
