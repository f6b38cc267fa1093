"""README.md of a policy or a prior, with the metadata that the Hugging Face Hub reads: licence, tags, base model,
data sets, and what an evaluation measured, as `model-index`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2

from configs.files import read_json, read_yaml
from configs.hub.fetch import split_name
from configs.schema import World

TAGS = ("image-degradation", "image-restoration", "du-vlm")
LIBRARIES = {"policy": ("transformers", "image-text-to-text"), "prior": ("diffusers", "image-to-image")}
"""{kind of folder: (the library that opens it, what the Hub calls its task)}."""
MEASURES = {"t_acc": "T-Acc", "t_f1": "T-F1", "j_acc": "J-Acc", "p_abs": "P-Abs", "p_rel": "P-Rel"}
"""{field of an evaluation's summary.json: its name}."""
_TEMPLATE = Path(__file__).with_name("card.md.jinja")


def make_card(
    folder: Path,
    kind: str,
    name: str,
    licence: str = "",
    datasets: Sequence[str] = (),
    evaluation: Mapping | None = None,
) -> str:
    """Writes the README.md of a policy or prior.

    Args:
        folder: its weights, with world.json where it is a policy; what it was trained from is read in the
            config.yaml of the run around it, where there is one.
        kind: `policy` or `prior`.
        name: OWNER/NAME, or how it is called else.
        licence: as the Hub names it, for example apache-2.0; nothing is said where it is empty.
        datasets: names on the Hub of what it was trained on.
        evaluation: content of the summary.json of `duvlm run evaluate`.

    Raises:
        UserError: a file that is read is damaged.
    """
    from huggingface_hub import ModelCardData

    world = asdict(World()) | read_json(folder / "world.json") if kind == "policy" else {}  # it may lack newer settings
    library, task = LIBRARIES[kind]
    measured = _measured(evaluation or {})
    data = ModelCardData(
        license=licence or None,
        library_name=library,
        pipeline_tag=task,
        tags=list(TAGS),
        base_model=_base_model(folder),
        datasets=list(datasets) or None,
        model_name=name.rpartition("/")[2],
        eval_results=_results(task, evaluation or {}, measured) or None,
    )
    words = {"metadata": data.to_yaml(), "kind": kind, "name": name, "world": world, "measured": measured}
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(_TEMPLATE.read_text()).render(words, evaluation=evaluation)


def _base_model(folder: Path) -> str | None:
    """The name on the Hub of the model that a run began with, where that was one."""
    settings = folder.resolve().parent / "config.yaml"
    began_with = str((read_yaml(settings) or {}).get("policy", "")) if settings.is_file() else ""
    named = split_name(began_with)
    return named[0] if named and not Path(began_with).exists() else None


def _measured(evaluation: Mapping) -> dict[str, float]:
    """{name of a measure: its value}, of those that an evaluation has."""
    measured = {name: evaluation[field] for field, name in MEASURES.items() if evaluation.get(field) is not None}
    restored = evaluation.get("restoration", {}).get("all", {}).get("after", {})
    return measured | ({"PSNR restored": restored["psnr"]} if "psnr" in restored else {})


def _results(task: str, evaluation: Mapping, measured: Mapping[str, float]) -> list:
    from huggingface_hub import EvalResult

    corpus = Path(str(evaluation.get("corpus", ""))).name
    about = {"task_type": task, "dataset_type": "du-corpus", "dataset_name": corpus or "degradation corpus"}
    about |= {"dataset_split": evaluation.get("split")}
    kinds = {name: name.lower().replace(" ", "-") for name in measured}
    return [
        EvalResult(metric_type=kinds[name], metric_name=name, metric_value=value, **about)
        for name, value in measured.items()
    ]
