"""python -m wandb_tl.soup: average the weights of a sweep's runs into one model, where that helps."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wandb_tl import loading
from wandb_tl.cache_folder import cache_limit
from wandb_tl.command_line import Command, add_local_flags, local_flags, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.signals import TERMINATING
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from wandb_tl.analysis.ingredients import Ingredients
    from wandb_tl.training.datasets import Dataset
    from wandb_tl.training.evaluate import Evaluation
    from wandb_tl.training.model_description import ModelDescription
    from wandb_tl.training.soup import Attempt, MeanEvaluator, Total
    from wandb_tl.training.tracking import Artifact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        metavar="ENTITY/PROJECT/SWEEP",
        help="the sweep whose finished runs are averaged, or the address of its page",
    )
    add_local_flags(parser, "use")


def run(options: argparse.Namespace) -> int:
    """Make the soup of a sweep, and print which model classifies best. OK also if that is the best run."""
    parts = [part for part in urlsplit(options.sweep).path.split("/") if part not in ("", "sweeps")]
    if len(parts) != 3:
        raise UsageError(f"{options.sweep}: takes ENTITY/PROJECT/SWEEP")
    cache_limit()
    with embedded_server.selected(options.local, options.root):
        name = make(options.sweep)
    predict = shell_command("wandb_tl.predict", name, "PICTURES", *local_flags(options))
    print(f"Model: {name}. To classify pictures with it: {predict}", flush=True)
    return ExitCode.OK


@dataclass(frozen=True)
class Member:
    """A run, ENTITY/PROJECT/RUN, whose model may become an ingredient.

    artifact: its model on the server. folder: its model on this machine.
    """

    run: str
    artifact: Artifact
    folder: Path


@dataclass(frozen=True)
class Scores:
    """A model on the validation images and the test images.

    test: None if the data set has no test images of its own. temperature: see training/temperature.py.
    """

    val: Evaluation
    test: Evaluation | None
    temperature: float


def make(sweep: str) -> str:
    """Make the soup of a sweep, log it, and return its run; or the best run, if no mean is as good as that.

    InputError if fewer than two runs can be averaged, or if their images are not here or have changed.
    """
    with loading.libraries():
        from wandb_tl.analysis import ingredients
        from wandb_tl.analysis.results import Results
        from wandb_tl.training import datasets, devices, model_folder, soup, soup_run, tracking
        from wandb_tl.training.process_cache import ProcessCache

    soup_run.check_online()
    results = Results(sweep)
    chosen = ingredients.choose(results.frame(), results.path)
    introduce(chosen, results.path)
    members = download(chosen, results.path)
    trained, cache = model_folder.load(members[0].folder), ProcessCache()
    config = trained.description.config
    pictures = tracking.download_pictures(config)
    data = datasets.load(config, cache.images, pictures.folder if pictures else None)
    check_images(data, trained.description)
    evaluator = soup.MeanEvaluator(trained, data, devices.fastest(), cache.activations)
    total, attempts = average_greedily(evaluator, best_first(evaluator, members))
    best = attempts[0].ingredient
    if total.count == 1:
        print(f"No mean is as good on the validation images as the best run alone, {best.run}.")
        return best.run
    # Only what has been chosen is tested.
    before = scores(evaluator, evaluator.read(best.folder), data)
    after = scores(evaluator, total, data)
    comparison = compared(before, after)
    print(sentences(comparison, total.count))
    return log(results.path, evaluator, describe(evaluator, data, after), attempts, comparison)


def introduce(chosen: Ingredients, sweep: str) -> None:
    """Print what is averaged, and which finished runs of the sweep are left out."""
    layers = "trained layers" if chosen.config.finetuning else "classifiers"
    model = chosen.config.model_name
    print(f"Averages the {layers} of up to {len(chosen.runs)} runs of {sweep}, each a {model}.", flush=True)
    if chosen.left_out:
        print(f"Left out: {'; '.join(chosen.left_out)}.", flush=True)


def download(chosen: Ingredients, sweep: str) -> list[Member]:
    """The models of the chosen runs, in their order. Prints the runs that have none.

    InputError if fewer than two of them have one.
    """
    from wandb_tl.progress import tqdm
    from wandb_tl.training import tracking

    project, members, without = sweep.rpartition("/")[0], [], []
    for run_id in tqdm(chosen.runs, "models", leave=False):
        path = f"{project}/{run_id}"
        artifact = tracking.read_run(path).model
        if artifact is None:
            without.append(path)
        else:
            members.append(Member(path, artifact, tracking.download_model(artifact)))
    names = ", ".join(without)
    if len(members) < 2:
        raise InputError(f"{sweep}: fewer than two runs can be averaged; without a model artifact: {names}")
    if without:
        print(f"Left out, without a model artifact: {names}.", flush=True)
    return members


def check_images(data: Dataset, description: ModelDescription) -> None:
    """InputError if the images are not those of the run with this description."""
    from wandb_tl.training.model_description import names_digest

    before = description.results
    counts = {"train": len(data.train), "val": len(data.val or ()), "test": len(data.test)}
    changes = [
        f"{split}_images was {before[name]:,.0f}, and is {count:,} now"
        for split, count in counts.items()
        if (name := f"{split}_images") in before and before[name] != count
    ]
    if description.class_names != data.class_names:
        changes.append("other classes")
    if names_digest(data.test.names) != description.test_pictures:
        changes.append("other test pictures")
    if changes:
        raise InputError(f"the images have changed since the runs were trained: {'; '.join(changes)}")


def best_first(evaluator: MeanEvaluator, members: Sequence[Member]) -> list[Member]:
    """The members by the accuracy of their own models on the validation images; equally good ones stay.

    It leaves out those whose frozen weights differ from those of the first one, and prints them.
    """
    from wandb_tl.progress import tqdm

    hits: dict[str, int] = {}
    for member in tqdm(members, "runs alone", leave=False):
        if evaluator.fits(member.folder):
            hits[member.run] = evaluator.load(evaluator.read(member.folder))
        else:
            print(f"Left out: {member.run}, whose frozen layers have other weights.")
    return sorted((one for one in members if one.run in hits), key=lambda one: -hits[one.run])


def average_greedily(
    evaluator: MeanEvaluator, members: Sequence[Member]
) -> tuple[Total, list[Attempt[Member]]]:
    """The greedy soup of the members. Prints each attempt."""
    from wandb_tl.training import soup

    images = len(evaluator.inputs["val"])

    def tell(one: Attempt[Member]) -> None:
        accuracy = f"{100 * one.hits / images:.2f} % of {images:,} validation images"
        if one.ingredient is members[0]:
            print(f"Best run: {one.ingredient.run}, {accuracy}", flush=True)
        else:
            print(f"With {one.ingredient.run}: {accuracy}{'' if one.added else ', left out'}", flush=True)

    return soup.greedy(members, lambda member: evaluator.read(member.folder), evaluator.load, tell)


def scores(evaluator: MeanEvaluator, total: Total, data: Dataset) -> Scores:
    """The scores of a mean, whose weights the network has afterwards."""
    from wandb_tl.training import temperature
    from wandb_tl.training.evaluate import evaluate

    evaluator.load(total)
    logits, labels = evaluator.logits("val"), evaluator.inputs["val"].labels
    test = None if data.test_is_val else evaluate(evaluator.logits("test"), evaluator.inputs["test"].labels)
    return Scores(evaluate(logits, labels), test, temperature.fit(logits, labels))


def compared(before: Scores, after: Scores) -> dict[str, float]:
    """The numbers of the run's summary: of the soup, of the best run before it, and of their difference.

    Accuracies are in per cent. test_difference is that of the soup minus that of the best run in points, with
    its 95 % interval and the p-value of McNemar's test.
    """
    import pandas as pd

    from wandb_tl.analysis import proportions

    numbers = {"val_accuracy": after.val.percent, "best_run_val_accuracy": before.val.percent}
    if before.test is None or after.test is None:
        return numbers
    right = [pd.Series((one.predicted == one.actual).numpy()) for one in (before.test, after.test)]
    paired = proportions.mcnemar(*right)
    low, high = proportions.difference_interval(paired)
    return numbers | {
        "test_accuracy": after.test.percent,
        "best_run_test_accuracy": before.test.percent,
        "test_images": paired.n,
        "test_difference": after.test.percent - before.test.percent,
        "test_difference_low": low,
        "test_difference_high": high,
        "test_difference_p": paired.p,
    }


def sentences(comparison: Mapping[str, float], count: int) -> str:
    """The comparison of a soup of `count` runs with the best run, in words."""
    from wandb_tl.analysis import formatting

    val, best_val = comparison["val_accuracy"], comparison["best_run_val_accuracy"]
    lines = [f"Mean of {count} runs, validation images: {val:.2f} %, the best run alone {best_val:.2f} %."]
    if "test_accuracy" not in comparison:
        return f"{lines[0]} There are no test images of their own."
    difference, low, high = (
        formatting.signed(comparison[f"test_difference{end}"]) for end in ("", "_low", "_high")
    )
    settled = comparison["test_difference_low"] > 0 or comparison["test_difference_high"] < 0
    lines.append(
        f"Test images: {comparison['test_accuracy']:.2f} %, the best run alone "
        f"{comparison['best_run_test_accuracy']:.2f} %: {difference} points, "
        f"{'settled' if settled else 'not settled'}: between {low} and {high}."
    )
    return "\n".join(lines)


def describe(evaluator: MeanEvaluator, data: Dataset, after: Scores) -> ModelDescription:
    """The description of the soup: that of its first run, with the results of the soup."""
    from wandb_tl.train import results_of

    return dataclasses.replace(
        evaluator.description,
        precision=evaluator.precision,
        temperature=after.temperature,
        results=results_of(data, after),
    )


def log(
    sweep: str,
    evaluator: MeanEvaluator,
    description: ModelDescription,
    attempts: Sequence[Attempt[Member]],
    comparison: Mapping[str, float],
) -> str:
    """Log the model as a W&B run, and return ENTITY/PROJECT/RUN."""
    from wandb_tl.training import model_folder, soup_run, tracking

    added = [one.ingredient for one in attempts if one.added]
    summary: dict[str, float | str] = {**comparison, "ingredient_count": len(added), "best_run": added[0].run}
    steps: dict[str, list[Any]] = {
        "run": [one.ingredient.run for one in attempts],
        "validation_hits": [one.hits for one in attempts],
        "added": [one.added for one in attempts],
    }
    artifacts = {one.run: one.artifact for one in added}
    with (
        TemporaryDirectory() as temporary,
        soup_run.started(sweep, description.config, artifacts) as run,
    ):
        folder = Path(temporary, run.id)
        description = model_folder.save(folder, evaluator.network, description)
        soup_run.log(run, folder, description.as_dict(), summary, steps)
        path, page = tracking.path_on_server(run), run.url
    # The address of an embedded server needs the key, and may be another one next time.
    if os.environ.get("WANDB_TL_ROOT") is None:
        print(f"In W&B: {page}", flush=True)
    return str(path)


COMMAND = Command(
    name="soup",
    summary="average the weights of a sweep's runs into one model",
    description="Average the trained weights of a sweep's finished runs into one model, which is as fast as "
    "one of them (a greedy soup, arXiv 2203.05482). It starts with the best run on the validation images, "
    "and adds each other run with which the mean is not worse on them. Only the chosen mean and the "
    "best run are tested. It averages runs that were trained from the same weights on the same images, and "
    "names those that it leaves out.",
    epilog="The runs need validation images (val_fraction or fold, or a val folder), and one seed or "
    "classifier_start=probe if they finetune. The soup is a run of its own in the project of the sweep, for "
    "predict ENTITY/PROJECT/RUN. Runs are read from the server that wandb is logged in to, or "
    "$WANDB_BASE_URL with $WANDB_API_KEY; with --local, from the embedded server.",
    add_arguments=add_arguments,
    run=run,
    ends_on=TERMINATING,
)

if __name__ == "__main__":
    COMMAND.start()
