"""Writes the text of a prompt, in one place, so that engine and learner read the same tokens.

A model whose vocabulary has the answer tokens was trained on them and is asked the short question of its training;
any other gets the zero-shot question, which states the taxonomy.
"""

from __future__ import annotations

from configs.schema import Config
from envs.language import grammar, zero_shot
from envs.language.answer import answer_tokens
from envs.observation import QUESTION, chat
from envs.taxonomy import Taxonomy
from envs.world import world_taxonomy


def prompt_text(processor, view_count: int, question: str = QUESTION) -> str:
    """Writes the chat of `view_count` pictures and the question as text, up to where the answer begins.

    One image placeholder a picture; engine and processor expand it to the picture's tokens.
    """
    return processor.apply_chat_template(chat(view_count, question), add_generation_prompt=True, tokenize=False)


def question_for(processor, config: Config) -> str:
    """Returns the question that the model behind `processor` is asked."""
    taxonomy = world_taxonomy(config.world)
    return QUESTION if knows_answers(processor, taxonomy) else zero_shot.question(taxonomy, config.world.views)


def knows_answers(processor, taxonomy: Taxonomy) -> bool:
    """Tells whether every answer token is a token of the model."""
    return set(answer_tokens(taxonomy)) <= set(processor.tokenizer.get_vocab())


def answer_limit(config: Config, trained: bool) -> int:
    """Returns how many tokens an evaluated answer may take: `rollout.max_tokens`, more where the language needs more.

    trained: whether the model knows the answer tokens.
    """
    needed = 0 if trained else zero_shot.MAX_TOKENS
    if config.rollout.grammar:
        needed = grammar.longest(world_taxonomy(config.world))
    return max(config.rollout.max_tokens, needed)


def grammar_for(processor, config: Config) -> str:
    """Writes the grammar of all answers that the model can give, for vLLM's structured outputs."""
    taxonomy = world_taxonomy(config.world)
    if knows_answers(processor, taxonomy):
        return grammar.token_grammar(
            taxonomy, processor.tokenizer.convert_tokens_to_ids, rationale=config.world.rationale
        )
    return grammar.json_grammar(taxonomy)
