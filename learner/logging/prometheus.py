"""A job's numbers for Prometheus, through Ray's own exporter; docs/grafana/duvlm.json draws them.

Prometheus knows them with Ray's prefix: `ray_duvlm_reward`. Every one carries `run`, the end of the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping

ROLES = ("rollout", "reward", "learner")
GAUGES = {
    "duvlm_step": ("Optimiser steps done.", {"": "step"}),
    "duvlm_reward": ("Mean reward of the step.", {"": "reward"}),
    "duvlm_gate_rate": ("Share of completions turned away by the gate.", {"": "gate_rate"}),
    "duvlm_staleness": ("Steps by which the sampling weights lagged.", {"": "staleness"}),
    "duvlm_step_seconds": ("Seconds of the step.", {"": "step_seconds"}),
    "duvlm_tokens_per_second": ("Tokens sampled a second.", {"": "tokens_per_second"}),
    "duvlm_reward_actors": ("Reward actors at work.", {"": "rewards/actors"}),
    "duvlm_queue_depth": ("Queries that wait for a reward actor.", {"": "rewards/queued"}),
    "duvlm_queue_age_seconds": ("Seconds the oldest query has waited.", {"": "rewards/queue_age"}),
    "duvlm_busy_share": ("Share of the step in which a role worked.", {role: f"busy_share/{role}" for role in ROLES}),
}
"""name: (what it is, {role: metric of a step}); the role is empty where there is none."""
COUNTERS = {
    "duvlm_restarts": ("Actors started again after a death.", {role: f"restarts/{role}" for role in ROLES[:2]}),
    "duvlm_completions": ("Completions sampled.", {"": "completions"}),
}
"""The same, summed over steps; Prometheus sees `_total` after the name."""


class PrometheusSink:
    """Sets all gauges and counters from a step's numbers, in a process that is connected to Ray."""

    def __init__(self, run: str):
        from ray.util.metrics import Counter, Gauge

        self._run = run
        self._gauges = {name: Gauge(name, text, ("run", "role")) for name, (text, _) in GAUGES.items()}
        self._counters = {name: Counter(name, text, ("run", "role")) for name, (text, _) in COUNTERS.items()}

    def set(self, numbers: Mapping[str, float]) -> None:
        """numbers: the metrics of a step, by their flat names."""
        for name, (_, metrics) in GAUGES.items():
            for role, metric in metrics.items():
                if metric in numbers:
                    self._gauges[name].set(numbers[metric], self._tags(role))
        for name, (_, metrics) in COUNTERS.items():
            for role, metric in metrics.items():
                if numbers.get(metric, 0) > 0:  # Ray takes no zero
                    self._counters[name].inc(numbers[metric], self._tags(role))

    def _tags(self, role: str) -> dict[str, str]:
        """Ray sends tags as ASCII: other letters of a folder's name are written as escapes."""
        return {"run": self._run.encode("ascii", "backslashreplace").decode(), "role": role}
