"""Settings of every job: typed schema, tracks in YAML, `key=value`. Importable without torch or Ray."""

from importlib.util import find_spec

from configs.errors import UserError
from configs.schema import Config

if find_spec("omegaconf"):  # where the project is not installed, what reads no settings runs all the same
    from configs.load import config_to_yaml, load, run_folder

__all__ = ["Config", "UserError", "config_to_yaml", "load", "run_folder"]
