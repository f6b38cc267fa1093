"""The jobs of this package, for the table in `configs.jobs`. Imports nothing heavy."""

from configs.cluster.resources import Role, learner_ranks, reward_actors, rollout_engines
from configs.jobs import Job
from configs.schema import Config


def _evaluate_roles(config: Config) -> tuple[Role, ...]:
    answers_given = config.policy.endswith(".jsonl")
    if answers_given and not config.restored:
        return ()
    answering = () if config.endpoint or answers_given else (rollout_engines(config),)
    return (*answering, reward_actors(config))


def _ablate_roles(config: Config) -> tuple[Role, ...]:
    own = () if config.reward.pool else (reward_actors(config),)
    return (rollout_engines(config), *own, learner_ranks(config))


JOBS = (
    Job(
        "evaluate",
        "benchmarks.quality.evaluate:run",
        "Measure a policy, or anyone's answers, on a corpus.",
        reads=(
            *("corpus", "photos", "split", "limit", "policy", "endpoint", "before", "restored", "nuisances", "resume"),
            *("world", "rollout", "reward"),
        ),
        roles=_evaluate_roles,
    ),
    Job(
        "compare",
        "benchmarks.quality.compare:run",
        "Join evaluations of the same samples in one table, beside the paper's.",
        reads=("scores", "corpus", "split", "world"),
    ),
    Job(
        "ablate",
        "benchmarks.ablate.run:run",
        "Draw Table 4, Table 5 or Figure 7 of the paper again.",
        reads=(
            *("study", "photos", "enlarge", "count", "reviews", "corpus", "split", "limit", "policy", "steps"),
            *("resume", "trackers", "max_failures", "world", "rollout", "reward", "learner", "grpo"),
        ),
        roles=_ablate_roles,
    ),
)
