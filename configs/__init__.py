"""Settings of every job: typed schema, tracks in YAML, `key=value`. Importable without torch or Ray."""

from configs.errors import UserError
from configs.load import config_to_yaml, load, run_folder
from configs.schema import Config

__all__ = ["Config", "UserError", "config_to_yaml", "load", "run_folder"]
