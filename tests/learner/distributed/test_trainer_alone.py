"""What a trainer owes whoever trains at full scale, on a process group of one rank in this process."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from configs.schema import Config
from learner.losses import Trajectory

pytestmark = pytest.mark.usefixtures("alone")


def settings(**changes) -> Config:
    config = Config()
    config.world.size, config.learner.ranks, config.learner.warmup = 64, 1, 0
    for name, value in changes.items():
        setattr(config.learner if hasattr(config.learner, name) else config.grpo, name, value)
    return config


def trainer(folder, reference=None, **changes):
    from learner.distributed.trainer import Trainer

    return Trainer(Path(folder), settings(**changes), 8, reference and Path(reference))


def weights(actor) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in actor.named_tensors()}


def test_ranks_wait_half_an_hour_for_each_other():
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    assert backend.options._timeout == timedelta(minutes=30)


def test_the_reference_has_the_type_of_the_policy(policy_folder, monkeypatch):
    """It was float32 beside a policy in bfloat16: 35 GB a rank for 17.5."""
    from learner.distributed import trainer as module

    monkeypatch.setattr(module, "parameter_dtype", lambda learner, on_gpu: torch.bfloat16)
    monkeypatch.setattr(module, "initialize", lambda policy, *_: policy)  # its types do not matter here
    actor = trainer(policy_folder, policy_folder)
    assert {parameter.dtype for parameter in actor.reference.parameters()} == {torch.bfloat16}


def test_a_step_without_an_advantage_moves_no_weight_and_counts(policy_folder, examples):
    """Twice over such groups, Adam made steps of full size of a gradient that was rounding."""
    actor = trainer(policy_folder, policy_folder, kl=0.1, epochs=2)
    before = weights(actor)
    flat = [Trajectory(example, (-7.0,) * len(example.completion), 0.0) for example in examples[:2]]
    metrics = actor.grpo_step(flat)
    assert (metrics["skipped"], actor.steps) == (1.0, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in actor.named_tensors())
    assert actor.grpo_step([Trajectory(flat[0].example, flat[0].logprobs, 1.0), flat[1]])["skipped"] == 0.0
    assert any(not torch.equal(tensor, before[name]) for name, tensor in actor.named_tensors())


def test_under_zero_3_no_rank_opens_the_whole_policy(policy_folder, monkeypatch):
    from learner.distributed import trainer as module
    from learner.policy.model import load_policy

    monkeypatch.setattr(module, "load_policy", None)
    actor = trainer(policy_folder, zero=3)
    plain = dict(load_policy(policy_folder)[0].named_parameters())
    sharded = {name: tensor.clone() for name, tensor in actor.named_tensors()}
    assert sharded.keys() == plain.keys()
    assert all(torch.equal(sharded[name], plain[name]) for name in plain)


def test_the_decay_of_matrices_spares_gains_and_biases(policy_folder):
    from learner.distributed.deepspeed import WEIGHT_DECAY, adamw
    from learner.policy.model import load_policy

    model = load_policy(policy_folder)[0]
    shapes = {
        group["weight_decay"]: {parameter.dim() > 1 for parameter in group["params"]}
        for group in adamw(model, settings(decay="matrices").learner, on_gpu=False).param_groups
    }
    assert shapes == {WEIGHT_DECAY: {True}, 0.0: {False}}
    (everything,) = adamw(model, settings().learner, on_gpu=False).param_groups
    assert everything["weight_decay"] == WEIGHT_DECAY


def test_on_a_gpu_adamw_is_fused_unless_its_state_is_on_the_host(policy_folder):
    """Unfused it makes copies of all weights on the way: 8 to 12 GB at full scale."""
    from learner.distributed.deepspeed import adamw
    from learner.policy.model import load_policy

    model, offloaded = load_policy(policy_folder)[0], settings(memory=["offload"]).learner
    assert adamw(model, settings().learner, on_gpu=True).defaults["fused"]
    assert not adamw(model, offloaded, on_gpu=True).defaults["fused"]


def test_a_save_gathers_one_weight_after_the_other_in_host_memory(policy_folder, monkeypatch):
    """The whole model was cloned on the GPU of rank 0. Stand-ins for weights, since a host has no second memory."""
    actor, events = trainer(policy_folder), []

    class Weight:
        def __init__(self, name):
            events.append(f"gather {name}")
            self.name = name

        def to(self, device, copy):
            events.append(f"{self.name} to {device}, copy {copy}")
            return self.name

    monkeypatch.setattr(actor, "weights", [SimpleNamespace(name=name) for name in "ab"])
    monkeypatch.setattr(actor, "named_tensors", lambda: ((name, Weight(name)) for name in "ab"))
    assert actor.gather_policy() == {"a": "a", "b": "b"}
    assert events == ["gather a", "a to cpu, copy True", "gather b", "b to cpu, copy True"]


def test_the_reference_track_spares_them():
    from configs import load

    assert load("sft", ["track=qwen3vl_8b"]).learner.decay == "matrices"
    assert load("sft", []).learner.decay == "all"


@pytest.mark.parametrize("zero", [2, 3])
def test_gradients_of_many_passes_add_up_in_float32(zero):
    """In bfloat16 128 passes were wrong by 1 %."""
    from learner.distributed import deepspeed

    torch.manual_seed(0)
    inputs, config = torch.randn(128, 4, 32).bfloat16(), settings(zero=zero).learner
    layer = torch.nn.Linear(32, 32, bias=False).bfloat16()
    exact = torch.zeros(32, 32, dtype=torch.float64)
    for part in inputs:
        exact += part.double().sum(0).expand(32, 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deepspeed, "parameter_dtype", lambda learner, on_gpu: torch.bfloat16)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
        engine = deepspeed.initialize(layer, optimizer, config, 1, on_gpu=False)
    for number, part in enumerate(inputs):
        engine.set_gradient_accumulation_boundary(number == len(inputs) - 1)
        engine.backward(engine(part).float().sum(), scale_wrt_gas=False)
    engine.step()
    assert float(engine.get_global_grad_norm()) == pytest.approx(float(exact.norm()), rel=3e-3)


@pytest.mark.parametrize("memory", [[], ["checkpointing"]])
def test_answers_are_those_of_generate_and_leave_the_mode_as_it_was(policy_folder, examples, memory):
    actor = trainer(policy_folder, memory=memory)
    training = actor.model.training
    first, *_ = actor.answers([example.image for example in examples[:3]], 5)
    assert first == actor.answers([examples[0].image], 5)[0]
    assert actor.model.training is training


def test_a_saved_state_is_read_on_another_number_of_ranks(tmp_path):
    from safetensors.torch import save_file

    from learner.distributed.reshard import read_share

    whole = torch.arange(10.0)
    for rank, part in enumerate(torch.cat([whole, torch.zeros(2)]).chunk(4)):
        file = tmp_path / f"rank-{rank}.safetensors"
        tensors = {"weight.0": part, "exp_avg.0": part / 10, "step.0": torch.tensor(7.0)}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    halves = [read_share(tmp_path, 0, 5, 2, None, rank=rank, ranks=2, saved_ranks=4) for rank in range(2)]
    assert torch.equal(torch.cat([half["weight"] for half in halves]), whole)
    assert torch.equal(torch.cat([half["exp_avg"] for half in halves]), whole / 10)
    assert halves[1]["step"] == 7
    padded = [read_share(tmp_path, 0, 4, 2, None, rank=rank, ranks=3, saved_ranks=4)["weight"] for rank in range(3)]
    assert torch.cat(padded).tolist() == [*range(10), 0, 0]


def test_under_zero_3_each_parameter_is_dealt_anew(tmp_path):
    from safetensors.torch import save_file

    from learner.distributed.reshard import read_share

    parameters = [torch.arange(5.0), torch.arange(10.0, 13.0)]
    padded = [torch.cat([values, torch.zeros(-len(values) % 2)]).chunk(2) for values in parameters]
    for rank in range(2):
        save_file({"weight.0": torch.cat([parts[rank] for parts in padded])}, tmp_path / f"rank-{rank}.safetensors")
    shares = [read_share(tmp_path, 0, 3, 3, [5, 3], rank=rank, ranks=3, saved_ranks=2)["weight"] for rank in range(3)]
    assert [share.tolist() for share in shares] == [[0, 1, 10], [2, 3, 11], [4, 0, 12]]


@pytest.mark.parametrize(
    ("assigned", "visible", "index"),
    [([3], "3", 0), (["3"], "2,3", 1), ([5], None, 5), ([1], "0,1,2,3", 1), ([0.0], "GPU-abc", 0)],
)
def test_a_rank_takes_the_device_that_ray_assigned_whether_the_others_are_hidden_or_not(assigned, visible, index):
    from learner.distributed.worker import gpu_index

    assert gpu_index(assigned, visible) == index
