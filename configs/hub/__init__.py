"""The Hugging Face Hub: models by their names there in place of folders, and folders put there for others."""

from configs.hub.fetch import model_folder

__all__ = ["model_folder"]
