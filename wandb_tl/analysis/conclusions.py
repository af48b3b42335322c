"""The answer of a sweep in sentences: the report, the last lines of the commands and notebooks share them.

Sentences are Markdown in which `code` is the only markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wandb_tl.analysis import certainty, formatting, pareto, search_conclusions
from wandb_tl.analysis.answer import Answer, Recipe, is_measured_by_images
from wandb_tl.analysis.commands import CommandLine
from wandb_tl.analysis.formatting import code, conjunction, count, points, seconds
from wandb_tl.analysis.interactions import REACH, Interaction
from wandb_tl.analysis.next_runs import FROM_PROBE
from wandb_tl.analysis.runs_by_recipe import METRIC, ValuesInEffect
from wandb_tl.analysis.ties import Tie

# The metrics that order recipes, as sentences name them.
NAMES_OF_METRICS = {
    "val/accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "val/f1_macro": "validation F1",
    "test/f1_macro": "test F1",
}


def first_sentences(answer: Answer) -> list[str]:
    """What a practitioner acts on: the winner, how good it is, at what price, and how sure that is.

    Of a sweep with several objectives, the Pareto front.
    """
    if answer.front is not None:
        return pareto.sentences(answer.front)
    return [winner(answer), accuracy(answer), price(answer), *certainty.sentences(answer)]


def last_lines(answer: Answer) -> list[str]:
    """The end of a command's output, without markup, and without the commands to run next."""
    lines = [
        f"{winner(answer)} {accuracy(answer)}",
        price(answer),
        *certainty.short(answer),
        *certainty.bounds(answer),
    ]
    if answer.front is not None:
        lines = pareto.sentences(answer.front)
    return [line.replace("`", "") for line in lines]


def best_run(answer: Answer) -> str:
    """The id of the winner's best run, and which of its runs are as good."""
    text = f"the best of row 1, run {code(answer.winner.best_run)}"
    if not answer.tied_runs:
        return f"({text})."
    metric = NAMES_OF_METRICS.get(answer.judged_by, answer.judged_by)
    named = [code(run) for run in answer.tied_runs[: certainty.MOST_NAMED]]
    more = len(answer.tied_runs) - len(named)
    others = conjunction([*named, *([f"{more} more"] if more else [])])
    return f"({text}). It is tied with {others} in {metric}; the smallest seed comes first."


def command_lines(answer: Answer) -> list[tuple[str, CommandLine]]:
    """The commands that follow from the answer, each after what it is for."""
    again, best = ("it", "its best model") if answer.front is None else (model(answer), model(answer))
    if answer.better:
        again, best = "row 1", model(answer)
    lines = (
        (f"to train {again} again", answer.train),
        (f"to classify pictures with {best}", answer.predict),
        (f"next, {next_step(answer).replace('`', '')}", answer.next_runs.command),
    )
    return [(label, command) for label, command in lines if command is not None]


def model(answer: Answer) -> str:
    """Which model the command classifies pictures with."""
    if answer.better:
        return "the best model of row 1"
    return "the best model" if answer.front is None else "the first of these runs"


def winner(answer: Answer) -> str:
    """Which recipe to use."""
    if len(answer.recipes) == 1:
        return "There is one recipe, so there is nothing to compare it with."
    settings = formatting.settings(answer.winner.hyperparameters)
    if answer.tie is not None:
        first = f"The order of the hyperparameters puts row 1 first: {settings}."
        if answer.better:
            first = f"{first[:-1]}, but {certainty.better(answer)}."
        return f"{_too_few(answer, answer.tie)} {first}"
    if answer.better:
        return _choose_again(answer, settings)
    text = f"Use row 1: {settings}."
    if not answer.tied:
        return text
    metric = NAMES_OF_METRICS.get(answer.judged_by, answer.judged_by)
    return (
        f"{text} It is tied with {formatting.rows_in_words(answer.tied)} in {metric}; the order of the "
        "hyperparameters puts it first."
    )


def _choose_again(answer: Answer, settings: str) -> str:
    """That the test images contradict the validation images, whose choice it is."""
    images = answer.selection.images if answer.selection else math.nan
    number = "" if math.isnan(images) else f"{images:,.0f} "
    action = "choose again with more validation images"
    if answer.next_search is None and answer.next_runs.command is not None:
        action += ", as the next command does"
    return (
        f"Not settled: the {number}validation images chose row 1 ({settings}), but "
        f"{certainty.better(answer)}; {action}."
    )


def _too_few(answer: Answer, tie: Tie) -> str:
    """That the pictures which choose the recipe do not tell the recipes apart."""
    total = len(answer.recipes)
    recipes = f"All {total} recipes" if tie.recipes == total else f"{tie.recipes} of the {total} recipes"
    if not tie.all_right:
        metric = NAMES_OF_METRICS.get(answer.judged_by, answer.judged_by)
        number = "" if math.isnan(tie.images) else f" on {tie.images:,.0f} pictures"
        return f"{recipes} have the same {metric}{number}, which does not choose between them."
    split = "test" if answer.judged_by == METRIC else "validation"
    number = "" if math.isnan(tie.images) else f"{tie.images:,.0f} "
    return f"{recipes} classify all {number}{split} pictures correctly: too few to choose between them."


def accuracy(answer: Answer) -> str:
    """The winner's accuracy with its two uncertainties: seeds and test images."""
    recipe, images = answer.winner, answer.images
    if is_measured_by_images(recipe) and recipe.accuracy.mean == 100:
        return (
            f"It classifies all {images:,.0f} test images correctly; on other test images that is at least "
            f"{recipe.low:.0f} % (exact binomial interval of one model)."
        )
    text = f"{'Row 1' if answer.better else 'It'} classifies {recipe.accuracy.mean:.2f} % of "
    text += "the test images correctly" if math.isnan(images) else f"{images:,.0f} test images correctly"
    if recipe.accuracy.n > 1:
        text += f", ± {recipe.accuracy.half_width:.2f} over {recipe.accuracy.n} seeds"
    if not math.isnan(recipe.low):
        text += f"; {recipe.low:.1f} to {recipe.high:.1f} % on other test images"
        text += " (exact binomial interval of one model)"
    return f"{text}."


def price(answer: Answer) -> str:
    """What a run of the winner takes, and the cheaper recipe with what it costs in points."""
    time = answer.winner.price.seconds
    if math.isnan(time):
        return "How long a run takes is unknown."
    run = "A run of row 1" if answer.better else "A run"
    text = f"{run} takes {seconds(time)} to train{_without_frozen_layers(answer)}."
    if (recipe := answer.cheaper) is None:
        return text
    named = formatting.settings(_differences(answer, recipe))
    return (
        f"{text} Cheaper: row {recipe.row} ({named}) takes {seconds(recipe.price.seconds)}, "
        f"{time / recipe.price.seconds:.0f} times less, and {_behind(answer, recipe)}"
    )


def _without_frozen_layers(answer: Answer) -> str:
    """What the time of a run leaves out."""
    if (frozen := answer.frozen) is None:
        return ""
    if frozen.by_each_run:
        each = "" if frozen.runs == 1 else f", the sum of the {frozen.runs:,} runs"
        return f", without the frozen layers ({seconds(frozen.seconds)}{each})"
    return f", without the frozen layers ({seconds(frozen.seconds)}, computed once for all runs)"


def _behind(answer: Answer, recipe: Recipe) -> str:
    lead = answer.lead_over(recipe)
    if lead.lead.n == 0:
        return f"classifies {recipe.accuracy.mean:.2f} % correctly, with other seeds."
    if lead.settled:
        return f"is {points(lead.lead, with_sign=False)} points worse."
    if lead in answer.better:
        return f"is {points(lead.lead, with_sign=False)} points better on the test images."
    if math.isnan(lead.lead.half_width):
        word = "worse" if lead.lead.mean > 0 else "better"
        return f"is {abs(lead.lead.mean):.2f} points {word} with the one seed that both have."
    return f"whether it is worse is not settled: {certainty.between(-lead.lead.mean, lead, answer)}."


def about_effects(answer: Answer) -> str:
    """What the p-values of the changes of the winner are corrected for."""
    if answer.most_seeds == 1:
        return "One seed gives no intervals."
    text = f"p is corrected for {count(len(answer.effects), 'change')} (Holm)"
    if rivals := len(answer.contenders):
        where = ", where row 1 comes out better," if answer.selection else ""
        text += f" and{where} multiplied by {rivals + 1}, because {rivals + 1} recipes may be the best one"
    return f"{text}; the intervals are not corrected."


def about_interactions(interactions: Sequence[Interaction]) -> str:
    """Which recipes the interactions are over, and what their p-values are corrected for."""
    return (
        f"Only recipes within reach count, those with at most {REACH:g} times the errors of the best one: "
        "values that one of them has, and settings of the other hyperparameters with which one of the four "
        f"cells is within reach. p is corrected for {count(len(interactions), 'interaction')} (Holm)."
    )


def interaction(one: Interaction) -> str:
    """By how much one hyperparameter's effect depends on another one, and in which recipes."""
    fixed = dict(set.intersection(*(set(context) for context in one.contexts)))
    names = dict.fromkeys(name for context in one.contexts for name, _ in context if name not in fixed)
    basis = [f"corrected p {formatting.equals(one.p_corrected)}", formatting.rows_in_words(one.rows)]
    if names:
        averaged = conjunction([code(name) for name in names])
        basis.append(f"mean over {len(one.contexts)} settings of {averaged}")
    among = f" with {formatting.settings(dict(sorted(fixed.items())))}" if fixed else ""
    return (
        f"The effect of {code(one.first.parameter)} depends on {code(one.second.parameter)}{among}: by "
        f"{points(one.effect)} points ({'; '.join(basis)})."
    )


def next_step(answer: Answer) -> str:
    """What the command of next_runs is for."""
    if answer.next_search is not None:
        return search_conclusions.next_step(answer.next_search)
    plan = answer.next_runs
    runs = count(plan.runs, "run")
    if answer.front is not None:
        return f"to see how far other seeds move {model(answer)} ({runs})"
    if answer.tie is not None:
        larger = f" or hold out more of them with a larger {code('val_fraction')} ({runs})"
        return f"add pictures{larger if plan.command else ', to choose the recipe on more of them'}"
    if answer.better:
        larger = f"choose again on more validation images, with a larger {code('val_fraction')} ({runs})"
        return f"to {larger}" if plan.command else "add pictures, to choose the recipe on more of them"
    if plan.varies == FROM_PROBE:
        return f"to train the last stage too, from this classifier and from a random one ({runs})"
    if plan.varies is None:
        seeds = f"{plan.seeds} new seeds each{', by the spread so far' if answer.most_seeds > 1 else ''}"
        return f"to settle row 1 against row {plan.row} with {seeds}, as those so far chose row 1 ({runs})"
    new = ", which no run of this sweep has varied" if plan.varies in plan.never_varied else " further"
    return f"to vary {code(plan.varies)}{new} ({runs})"


def never_varied(answer: Answer) -> str:
    """Which hyperparameters the sweep never varied."""
    names = answer.next_runs.never_varied
    return f"Never varied: {', '.join(code(name) for name in names)}." if names else ""


def _differences(answer: Answer, recipe: Recipe) -> ValuesInEffect:
    """The hyperparameters in which a recipe differs from the winner."""
    mine = answer.winner.hyperparameters
    return {name: value for name, value in recipe.hyperparameters.items() if value != mine[name]}
