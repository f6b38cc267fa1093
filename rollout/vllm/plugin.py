"""Entry point that vLLM calls in each of its processes (`vllm.general_plugins`)."""

from __future__ import annotations


def register() -> None:
    """Makes our weight transfer known to vLLM and ties an engine's process to its actor. Safe to call twice."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory as Factory

    from rollout.vllm.follow import follow_parent

    if "gloo" not in Factory._registry:  # plug-ins may be loaded twice in one process
        Factory.register_engine("gloo", "rollout.weights.receiver", "GlooWeightTransferEngine")
        follow_parent()
