"""Reads a degradation off a photograph in this process, with transformers: no Ray, no engine.

Answers and posteriors are those of the engines, under `rollout.decoding` and `rollout.grammar`. A photograph larger
than the policy's world is read at its own scale too (`service.reading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from configs import load
from configs.hub import model_folder
from configs.schema import Config
from envs.language.posterior import INTERVAL
from envs.pictures import as_picture
from envs.taxonomy import world_taxonomy
from envs.world import check_policy, in_own_world, is_foreign, shipped_policy
from learner.policy.collator import Collator
from learner.policy.model import Policy, load_policy
from service.reading.foreign import Foreign
from service.reading.joint import read_photo
from service.reading.network import ViewLogits
from service.reading.questions import Language, Reading, answer
from service.reading.views import views_of

__all__ = ["INTERVAL", "Reader", "Reading"]


class Reader:
    """Reads photographs with one policy, which is opened once.

    >>> reader = Reader()
    >>> reader("envs/bundled/flower.jpg").confidence <= 1
    True
    """

    def __init__(self, policy: str | Path = "shipped", config: Config | None = None, device: str | None = None):
        """
        Args:
            policy: `shipped`, the folder of a policy that a training job has written, or its name on the Hub.
            config: settings of the job `restore`; those of the tiny track by default. `world.*` says which policy is
                the shipped one; one in a folder has its own.
            device: of the network, as torch names it; the first GPU where there is one.

        Raises:
            UserError: there is no policy.
        """
        self._config = in_own_world(config or load("restore"), policy)
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        shipped = policy == "shipped"
        folder = shipped_policy(self._config.world) if shipped else model_folder(str(policy), "policy").resolve()
        self._foreign = is_foreign(folder) and Foreign(folder, self._config, device)
        if self._foreign:
            return
        world = self._config.world
        check_policy(folder, world)
        model, processor = load_policy(folder)
        self._policy = Policy(model.to(device))
        self._collate = Collator(processor, model.model, world.views)
        decoding = self._config.rollout.decoding
        self._language = Language.of(processor.tokenizer, world_taxonomy(world), world.rationale, decoding)

    def __call__(self, image) -> Reading:
        """Reads one photograph: a path, the bytes of a file, a PIL image, or uint8 RGB (H, W, 3)."""
        photo, size = as_picture(image), self._config.world.size
        if self._foreign:
            return self._foreign.read(views_of(photo, size)[0])
        network = ViewLogits(self._policy, self._collate, self._language, self._config)
        return answer(read_photo(photo, size, self._language, self._config.seed), network.reply)

    def batch(self, images: Sequence) -> list[Reading]:
        """Reads several photographs, one after the other."""
        return [self(image) for image in images]
