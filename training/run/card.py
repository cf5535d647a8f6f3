"""`model_card.md`: what a model learned from, how, how good it is and what is not known of it.

The format is that of the Hugging Face hub: fields in YAML, then Markdown. Renamed `README.md` it is
the page of the model's repository there.
"""

import os

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from keras_convnext import __version__, pretrained
from keras_convnext.atomic import write_text

CARD = "model_card.md"
# The hub's name of each task, and of it the metrics: the place in the result, their names there.
TASKS = {
    "classification": ("image-classification", {"accuracy": "accuracy"}),
    "segmentation": ("image-segmentation", {"validation.mean_iou": "mean_iou"}),
    "detection": ("object-detection", {"validation.box.ap": "box_ap", "validation.mask.ap": "ap"}),
    "pretraining": ("image-feature-extraction", {}),
}
# Licences that the hub knows by a name of its own; others are named and linked.
LICENCES = ("mit", "apache-2.0", "bsd-3-clause", "cc-by-nc-4.0")
UNSAID = "What is not written here was not measured."


def write(run, task, plan, dataset, result):
    """Writes the card of a finished run into its folder.

    Args:
        run: the folder of the record.
        task: a `training.tasks.task.Task`.
        plan: a `Plan`.
        dataset: the `Dataset` of the run.
        result: the content of `result.json`.
    """
    row = start_of(plan.config)
    data = ModelCardData(
        library_name="keras",
        pipeline_tag=TASKS[task.name][0],
        tags=["keras", "convnext", "keras-convnext"],
        model_name=plan.config.name,
        eval_results=_scores(task, plan.config, dataset, result) or None,
        base_model=_repository(row),
        **_licence(row),
    )
    body = "\n\n".join(_sections(task, plan, dataset, result, row))
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")
    write_text(run / CARD, str(card))


def start_of(config):
    """Returns the row of the published weights that a run began with, or `None`."""
    if config.weights is None or os.path.exists(config.weights):
        return None
    try:
        return pretrained.find(config.weights, config.variant.name)
    except ValueError:  # an address, or weights of another task
        return None


def _scores(task, config, dataset, result):
    kind, metrics = TASKS[task.name]
    numbers = dict(_numbers(result))
    data = _called(config, dataset)
    return [
        EvalResult(
            task_type=kind,
            dataset_type=data,
            dataset_name=data,
            dataset_split="validation",
            metric_type=name,
            metric_value=numbers[place],
        )
        for place, name in metrics.items()
        if place in numbers
    ]


def _called(config, dataset):
    """Returns the name of the data, without the places of this machine."""
    return os.path.basename(os.path.normpath(str(dataset.name))) or config.dataset


def _repository(row):
    """Returns the repository of the start on the hub, or `None`."""
    repositories = (source.repo for source in row.sources) if row else ()
    return next(filter(None, repositories), None)


def _licence(row):
    if row is None:
        return {}  # whoever trained it decides
    name = row.licence.name.lower()
    if name in LICENCES:
        return {"license": name}
    return {"license": "other", "license_name": name, "license_link": row.licence.url}


# ---------------------------------------------------------------- for people


def _sections(task, plan, dataset, result, row):
    """Yields the parts of the text."""
    yield f"# {plan.config.name}"
    yield (
        f"A model for {task.name}, trained with keras_convnext {__version__}. Its best epoch is "
        "`best.keras`."
    )
    yield "## Data"
    yield dataset.summary or f"{_called(plan.config, dataset)}: {dataset.train.size:,} images."
    yield "## Recipe"
    yield _table(("", ""), plan.rows())
    yield "## Results"
    yield _table(("", "value"), [(name, f"{value:g}") for name, value in _numbers(result)])
    yield "## Limits"
    yield "\n".join(f"- {sentence}" for sentence in _limits(plan, dataset, row))


def _limits(plan, dataset, row):
    yield f"Trained once, with seed {plan.config.seed}: another seed gives another score."
    yield (
        f"The best epoch was chosen by {plan.score.removeprefix('val_').replace('_', ' ')} on the "
        "validation images, on which the scores were measured: these are optimistic for that."
    )
    names = dataset.class_names
    if len(names) > 1:
        shown = ", ".join(map(str, names[:20])) + (", ..." if len(names) > 20 else "")
        yield f"It knows {len(names)} classes, and no others: {shown}."
    if row is not None:
        yield f"It began with {row.name}, whose licence is {row.licence.name}: {row.licence.url}."
    yield UNSAID


def _table(head, rows):
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([f"| {' | '.join(head)} |", "|---|---|", *lines])


def _numbers(result, before=""):
    """Yields (name, number) of a result, with the names of what a number is in before it."""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{before}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{before}{name}", value
