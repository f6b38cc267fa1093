"""The jobs of this package, for the table in `configs.jobs`. Imports nothing heavy."""

from configs.cluster.resources import Role, learner_ranks, reward_actors, rollout_engines
from configs.jobs import Job
from configs.schema import Config

TRAINING = (
    *("photos", "enlarge", "count", "reviews", "corpus", "policy", "steps", "resume", "trackers", "max_failures"),
    "device_gb", "profile",
)
REINFORCEMENT = (*TRAINING, "probe", "world", "rollout", "reward", "learner", "grpo")

MEMORY = "learner.memory:needs"


def _offline_roles(config: Config) -> tuple[Role, ...]:
    """Nothing is restored where the numbers themselves are the reward, or where another job holds the actors."""
    restored = config.reward.strategy != "value" and not config.reward.pool
    return (rollout_engines(config), *([reward_actors(config)] if restored else ()), learner_ranks(config))


def _online_roles(config: Config) -> tuple[Role, ...]:
    own = () if config.reward.pool else (reward_actors(config),)
    return (rollout_engines(config), *own, learner_ranks(config))


JOBS = (
    Job(
        "sft",
        "learner.sft:run",
        "Teach the policy the answers of a corpus (the warm start).",
        reads=(*TRAINING, "epochs", "world", "learner", "rollout.max_tokens", "rollout.timeout"),
        roles=lambda config: (learner_ranks(config),),
        memory=MEMORY,
    ),
    Job(
        "offline",
        "learner.rl.job:run_offline",
        "Reinforce the policy by restoration, the truth being known.",
        reads=REINFORCEMENT,
        roles=_offline_roles,
        memory=MEMORY,
    ),
    Job(
        "online",
        "learner.rl.job:run_online",
        "Reinforce the policy on photographs nobody knows the truth of.",
        reads=(*REINFORCEMENT, "mix"),
        roles=_online_roles,
        memory=MEMORY,
    ),
)
