"""Reads with a vision-language model that was not trained on the answer tokens: by the zero-shot question."""

from __future__ import annotations

from pathlib import Path

import torch

from configs import UserError
from configs.models import check_model
from configs.schema import Config
from envs.language.reading import read_free_text
from envs.observation import views
from envs.taxonomy import world_taxonomy
from rollout.vllm.prompting import answer_limit, prompt_text, question_for
from service.pixels import to_photo
from service.reading.questions import Reading
from service.reading.views import View


class Foreign:
    """Holds such a model and its processor."""

    def __init__(self, folder: Path, config: Config, device: torch.device):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        check_model(folder, "policy")
        try:
            self._processor = AutoProcessor.from_pretrained(folder)
            model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            why = str(error)[:200]
            raise UserError(f"{folder}: expected a vision-language model with its processor: {why}") from None
        self._model, self._config, self._device = model.eval().to(device), config, device
        self._taxonomy = world_taxonomy(config.world)

    def read(self, view: View) -> Reading:
        """Reads the whole of a photograph, reduced; such a model has no densities that could be combined."""
        question = question_for(self._processor, self._config)
        pictures = views(view.picture, self._config.world.views)
        prompt = prompt_text(self._processor, len(pictures), question)
        inputs = self._processor(text=[prompt], images=pictures, return_tensors="pt").to(self._device)
        drawn, limit = self._config.rollout.decoding == "sample", answer_limit(self._config, trained=False)
        with torch.inference_mode():
            answered = self._model.generate(**inputs, do_sample=drawn, max_new_tokens=limit)
        written = answered[0, inputs["input_ids"].shape[1] :]
        text = self._processor.tokenizer.decode(written, skip_special_tokens=True)
        reading = read_free_text(text, self._taxonomy)
        return Reading(reading.degradation and to_photo(reading.degradation, view.ratio), text, reading.reason)
