"""The text of a prompt, made in one place, so that engine and learner read the same tokens."""

from __future__ import annotations

from envs.observation import chat


def prompt_text(processor, view_count: int) -> str:
    """The chat of `view_count` pictures and the question as text, up to where the answer begins.

    One image placeholder a picture; engine and processor expand it to the picture's tokens.
    """
    return processor.apply_chat_template(chat(view_count), add_generation_prompt=True, tokenize=False)
