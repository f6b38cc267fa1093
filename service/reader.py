"""Reads a degradation off a photograph in this process, with transformers: no Ray, no engine.

Answers and posteriors are those of the engines, under `rollout.decoding` and `rollout.grammar`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from configs import UserError, load
from configs.schema import Config
from envs.language.answer import severities
from envs.language.posterior import quantile
from envs.language.reading import read_free_text, read_text
from envs.language.vocabulary import NEGLIGIBLE, AnswerTokens
from envs.observation import views
from envs.pictures import UNREADABLE, read_picture, to_rgb
from envs.taxonomy import Degradation, world_taxonomy
from envs.world import SHIPPED, check_world, is_foreign
from learner.policy.collator import Collator, Example
from learner.policy.model import Policy, load_policy
from rollout.vllm.prompting import answer_limit, prompt_text, question_for
from service.pixels import IN_PIXELS, policy_view, to_photo

INTERVAL = (0.05, 0.95)
"""Shares of the posterior below the ends of a 90 % interval."""


@dataclass(frozen=True)
class Reading:
    """Holds what a policy reads off one photograph.

    degradation: in pixels of the photograph; None where the text is no valid answer.
    text: the policy's own words.
    reason: why there is no degradation, as `envs.language.reading` names it; empty where there is one.
    intervals: {key: (low, high)}, 90 % of the posterior of each number, in pixels of the photograph; of a key that is
        a vector or grid, lists of low and high ends in its order, row by row.
    confidence: probability of the type that was answered, 0 to 1; 0 where there is none.
    """

    degradation: Degradation | None
    text: str
    reason: str = ""
    intervals: dict[str, tuple] | None = None
    confidence: float = 0.0


class Reader:
    """Reads photographs with one policy, which is opened once.

    >>> reader = Reader()
    >>> reader("envs/bundled/flower.jpg").degradation.type in ("haze", "blur", "low_light", "low_resolution")
    True
    """

    def __init__(self, policy: str | Path = "shipped", config: Config | None = None, device: str | None = None):
        """
        Args:
            policy: `shipped`, or the folder of a policy that a training job has written.
            config: settings of the job `restore`; those of the tiny track by default. `world.*` must be the policy's.
            device: of the network, as torch names it; the first GPU where there is one.

        Raises:
            UserError: there is no policy, or it was trained in another world.
        """
        self._config = config or load("restore")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        folder = SHIPPED if policy == "shipped" else Path(policy).resolve()
        self._foreign = is_foreign(folder) and Foreign(folder, self._config, self._device)
        if self._foreign:
            return
        check_world(folder, self._config.world)
        model, processor = load_policy(folder)
        self._policy = Policy(model.to(self._device))
        self._collate = Collator(processor, model.model, self._config.world.views)
        self._tokenizer = processor.tokenizer
        self._taxonomy = world_taxonomy(self._config.world)
        self._tokens = AnswerTokens.of(self._tokenizer, self._taxonomy)
        self._types = self._tokenizer.convert_tokens_to_ids([f"[T-{kind.name}]" for kind in self._taxonomy.singles])

    def __call__(self, image) -> Reading:
        """Reads one photograph: a path, the bytes of a file, a PIL image, or uint8 RGB (H, W, 3)."""
        photo = as_picture(image)
        view, ratio = policy_view(photo, self._config.world.size)
        if self._foreign:
            return self._foreign.read(view, ratio)
        with torch.inference_mode():
            network = PictureLogits(self._policy, self._collate, view, self._tokenizer.eos_token_id, self._device)
            written = self._decode(network)
            text = self._tokenizer.decode(written)
            reading = read_text(text, self._taxonomy)
            if reading.degradation is None:
                return Reading(None, text, reading.reason)
            intervals, confidence = self._posterior(network, written)
        for key in intervals.keys() & IN_PIXELS.keys():
            intervals[key] = tuple(_times(end, ratio) for end in intervals[key])
        return Reading(to_photo(reading.degradation, ratio), text, intervals=intervals, confidence=confidence)

    def batch(self, images: Sequence) -> list[Reading]:
        """Reads several photographs, one after the other."""
        return [self(image) for image in images]

    def _decode(self, network: PictureLogits) -> list[int]:
        """The token ids of the answer, without the end-of-turn token."""
        rollout, written = self._config.rollout, []
        generator = torch.Generator().manual_seed(self._config.seed)
        layouts = self._layouts() if rollout.grammar else []
        while len(written) < max(rollout.max_tokens, *map(len, layouts), 0):
            logits = network.next_logits([written])[0]
            if layouts:
                logits = _only(logits, {token for layout in layouts for token in layout[len(written)]})
            if rollout.decoding == "sample":
                chances = (logits / rollout.temperature).softmax(-1)
                token = int(torch.multinomial(chances, 1, generator=generator))
            else:
                token = self._greedy(written, logits)
            if token == network.end:
                break
            written.append(token)
            layouts = [layout for layout in layouts if token in layout[len(written) - 1]]
        return written

    def _greedy(self, written: list[int], logits: torch.Tensor) -> int:
        """The likeliest token; where it is a value or a severity, the one that `rollout.decoding` chooses."""
        best, decoding = int(logits.argmax()), self._config.rollout.decoding
        if decoding == "argmax":
            return best
        key = next((self._tokens.keys[token] for token in reversed(written) if token in self._tokens.keys), None)
        if key and best in self._tokens.values[key] and not self._taxonomy.keys[key].is_class:
            tokens = self._tokens.values[key]
            density = logits[list(tokens)].double().softmax(-1).numpy()
            if decoding == "mean":
                grid = np.array(list(self._taxonomy.keys[key].grid()))
                return tokens[int(np.abs(grid - density @ grid).argmin())]
            return tokens[_median(density)]
        words = [word[0] for word in self._tokens.severities]
        if best in words:
            return words[_median(logits[words].double().softmax(-1).numpy())]
        return best

    def _posterior(self, network: PictureLogits, written: list[int]) -> tuple[dict, float]:
        """90 % intervals of each number, and the probability of the type; the severity in words is summed over."""
        length = self._tokens.opening(written)
        openings = [(1.0, tuple(written[:length]))]
        if length:
            first = network.next_logits([[]])[0].double().softmax(-1)
            chances = np.array([float(first[word[0]]) for word in self._tokens.severities])
            chances[chances < NEGLIGIBLE * chances.max()] = 0
            pairs = zip(chances / chances.sum(), self._tokens.severities, strict=True)
            openings = [(float(chance), word) for chance, word in pairs if chance]
        drafts = [[*word, *written[length:]] for _, word in openings]
        logits = network.all_logits(drafts)
        intervals: dict[str, list[tuple[float, float]]] = {}
        for place in self._tokens.places(written):
            grid, key = list(self._tokens.values[place.key]), self._taxonomy.keys[place.key]
            density = np.zeros(len(grid))
            for (weight, word), scores in zip(openings, logits, strict=True):
                density += weight * scores[place.position - length + len(word)].double().softmax(-1)[grid].numpy()
            density /= density.sum()
            intervals.setdefault(place.key, []).append(tuple(quantile(key, density, share) for share in INTERVAL))
        position = next(i for i, token in enumerate(written) if token in self._types)
        confidence = sum(
            weight * float(scores[position - length + len(word)].double().softmax(-1)[written[position]])
            for (weight, word), scores in zip(openings, logits, strict=True)
        )
        flat = {
            key: ends[0] if len(ends) == 1 else tuple(map(list, zip(*ends, strict=True)))
            for key, ends in intervals.items()
        }
        return flat, confidence

    def _layouts(self) -> list[list[set[int]]]:
        """Every layout of a well-formed answer: the tokens that may stand at each of its places."""
        ids, end = self._tokenizer.convert_tokens_to_ids, self._tokenizer.eos_token_id
        texts = severities(self._taxonomy) if self._config.world.rationale else [""]
        layouts = []
        for kind in self._taxonomy.types:
            tail = []
            for part in kind.parts:
                tail.append({ids(f"[T-{part}]")})
                for key in self._taxonomy[part].keys:
                    tail.append({ids(f"[K-{key.name}]")})
                    tail += [set(self._tokens.values[key.name])] * key.size
            for text in texts if kind.phenomena else [""]:
                words = self._tokenizer.encode(text, add_special_tokens=False)
                layouts.append([*({word} for word in words), *tail, {end}])
        return layouts


class Foreign:
    """Reads with a vision-language model that was not trained on the answer tokens: by the zero-shot question."""

    def __init__(self, folder: Path, config: Config, device: torch.device):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self._processor = AutoProcessor.from_pretrained(folder)
            model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            why = str(error)[:200]
            raise UserError(f"{folder}: expected a vision-language model with its processor: {why}") from None
        self._model, self._config, self._device = model.eval().to(device), config, device
        self._taxonomy = world_taxonomy(config.world)

    def read(self, view: np.ndarray, ratio: float) -> Reading:
        """view: uint8 (S, S, 3); ratio: how many pixels of the photograph one of its pixels spans."""
        question = question_for(self._processor, self._config)
        pictures = views(view, self._config.world.views)
        prompt = prompt_text(self._processor, len(pictures), question)
        inputs = self._processor(text=[prompt], images=pictures, return_tensors="pt").to(self._device)
        drawn, limit = self._config.rollout.decoding == "sample", answer_limit(self._config, trained=False)
        with torch.inference_mode():
            answered = self._model.generate(**inputs, do_sample=drawn, max_new_tokens=limit)
        written = answered[0, inputs["input_ids"].shape[1] :]
        text = self._processor.tokenizer.decode(written, skip_special_tokens=True)
        reading = read_free_text(text, self._taxonomy)
        return Reading(reading.degradation and to_photo(reading.degradation, ratio), text, reading.reason)


class PictureLogits:
    """Computes logits for one picture, whose vision features it holds."""

    def __init__(self, policy: Policy, collate: Collator, view: np.ndarray, end: int, device: torch.device):
        self._policy, self._collate, self._device, self.end = policy, collate, device, end
        self._batch = collate([Example(view, (end,))])
        self._seen = policy.see(self._batch.to(device))

    def next_logits(self, written: Sequence[Sequence[int]]) -> torch.Tensor:
        """float32 (N, vocabulary): of the token after each of N beginnings of one length."""
        return self._logits(written)[:, -1]

    def all_logits(self, drafts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Of each draft, float32 (tokens + 1, vocabulary): of every token given those before it."""
        return [scores[: len(draft) + 1] for scores, draft in zip(self._logits(drafts), drafts, strict=True)]

    def _logits(self, drafts: Sequence[Sequence[int]]) -> torch.Tensor:
        batch, rows = self._batch, [[[*draft, self.end] for draft in drafts]]
        none = batch.pixel_values[:0]
        draft = self._collate.batch(none, batch.image_grid_thw, batch.pictures, rows)
        return self._policy(draft.to(self._device), seen=self._seen).cpu()


def as_picture(image) -> np.ndarray:
    """Makes uint8 RGB (H, W, 3) of a path, the bytes of a file, a PIL image or an array.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, (str, Path, bytes)):
        try:
            return read_picture(image if isinstance(image, bytes) else Path(image))
        except UNREADABLE as error:
            shown = "" if isinstance(image, bytes) else f" at {image}"
            raise UserError(f"expected a picture{shown}: {str(error)[:120]}") from None
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"expected a picture as uint8 (H, W, 3), got {array.dtype} {array.shape}")
    return array


def _median(density: np.ndarray) -> int:
    return min(int((density.cumsum() < 0.5).sum()), len(density) - 1)


def _only(logits: torch.Tensor, tokens: set[int]) -> torch.Tensor:
    kept = torch.full_like(logits, -math.inf)
    index = torch.tensor(sorted(tokens))
    return kept.index_copy_(0, index, logits[index])


def _times(value, ratio: float):
    return [item * ratio for item in value] if isinstance(value, list) else value * ratio
