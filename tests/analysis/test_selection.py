"""What the answer says of a recipe that few validation images chose, and that the test images contradict."""

import numpy as np
import pytest
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import certainty, conclusions, effects, method
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe

# Of row 2 minus row 1, by seed: 4.29 points on average, and 0 is not in their interval.
GAINS = 4.29 + np.array([-8.1, -4.2, -3.3, -1.2, 0.3, 0.9, 2.4, 3.0, 3.3, 6.9])


def told(validation, gains=GAINS, images=26.0, **fixed):
    """Two recipes; validation: their shares of validation images, Adam's first."""
    seeds = range(len(gains))
    configs = grid({"optimizer": ["Adam", "SGD"]}, seeds, val_fraction=0.1, batch_size=32, **fixed)
    frame = runs_of(configs, lambda c: 60.57 + (c.optimizer == "SGD") * gains[c.seed])
    frame["val/accuracy"] = np.where(frame["optimizer"] == "Adam", *validation)
    return answer(frame.assign(val_images=images, test_images=210.0), "a/b/c"), frame


def test_a_choice_that_the_test_images_contradict_is_not_recommended():
    result, frame = told((0.6846, 0.6769))
    [lead] = result.better
    low, high = (-lead.lead.mean + sign * lead.lead.half_width for sign in (-1, 1))
    first, *others = conclusions.first_sentences(result)
    assert low > 0 and first == (
        "Not settled: the 26 validation images chose row 1 (`optimizer=Adam`), but on the test images row 2 "
        f"(`optimizer=SGD`) is better by 4.29 points (between +{low:.2f} and +{high:.2f} points); choose "
        "again with more validation images, as the next command does."
    )
    said = " ".join(others)
    assert "The 26 validation images do not settle the order of rows 1 and 2: 68.46 against 67.69 %." in said
    for wrong in ("Use row 1", "comparisons", "lead", "so similar"):
        assert wrong not in " ".join(
            [first, said, *conclusions.last_lines(result), *certainty.cautions(result)]
        )
    step = "to choose again on more validation images, with a larger `val_fraction` (20 runs)"
    assert conclusions.next_step(result) == step and result.next_runs.values["val_fraction"] == [0.2]
    # Two recipes have one difference, which is settled or not wherever it is quoted.
    [effect] = result.effects
    assert effect.settled and effect.p_corrected == effect.p == lead.p
    assert "same accuracies" not in " ".join(method.sentences(result, frame))


def test_two_seeds_are_too_little_to_contradict_the_choice():
    result, _ = told((0.6846, 0.6769), np.array([4.0, 4.0]))
    assert result.leads[0].is_behind and result.better == ()
    said = conclusions.last_lines(result)
    assert said[0].startswith("Use row 1: ") and said[-1].startswith("Two seeds decide next to nothing")
    assert "row 1 is better than row 2 (\N{MINUS SIGN}4.00 points, the same in each of 2 seeds)" in said[-2]
    assert result.next_runs.too_similar is None and result.next_runs.seeds == 5


def test_a_cheaper_recipe_that_is_better_is_called_better():
    _, frame = told((0.6846, 0.6769))
    frame["train_seconds"] = np.where(frame["optimizer"] == "Adam", 100.0, 10.0)
    price = conclusions.price(answer(frame, "a/b/c"))
    assert "10 times less, and is 4.29 ± " in price and price.endswith("points better on the test images.")


def test_without_more_images_to_hold_out_it_asks_for_pictures():
    result, _ = told((0.6846, 0.6769))
    _, frame = told((0.6846, 0.6769))
    result = answer(frame.assign(val_fraction=0.0), "a/b/c")
    assert result.next_runs.command is None
    assert conclusions.winner(result).endswith("; choose again with more validation images.")
    assert conclusions.next_step(result) == "add pictures, to choose the recipe on more of them"


@pytest.mark.parametrize(("images", "is_close"), [(26.0, True), (10_000.0, False)])
def test_the_order_is_open_if_the_images_or_the_seeds_do_not_settle_it(images, is_close):
    result, frame = told((0.70, 0.65), np.array([-1.0, 0.4, 1.1]), images)
    said = " ".join(certainty.sentences(result))
    assert ("do not settle the order of rows 1 and 2: 70.00 against 65.00 %" in said) == is_close
    assert conclusions.winner(result) == "Use row 1: `optimizer=Adam`."
    assert "whether row 1 is better than row 2" in said and "lead" not in said
    frame["val/accuracy"] += np.where(frame["optimizer"] == "Adam", 0.2, -0.2) * (frame["seed"] - 1)
    assert "do not settle the order" in " ".join(certainty.sentences(answer(frame, "a/b/c")))


def test_an_order_that_the_test_images_confirm_needs_no_caution():
    result, _ = told((0.6846, 0.6769), np.array([-3.0, -3.2, -2.9, -3.1]))
    assert certainty.sentences(result)[0].startswith("It is the best of the 2 recipes")
    tested, _ = told((np.nan, np.nan))
    assert tested.selection is None and tested.better == ()


def test_only_what_the_choice_favours_is_multiplied_by_the_number_of_candidates():
    """Validation images of the same runs choose: what is lucky on them is lucky on the test images too."""
    random = np.random.default_rng(0)
    recipes = grid(GRID)
    means = [80 + c.pretrained + 2 * (c.optimizer == "SGD") for c in recipes]
    frame = runs_of(recipes, means + 0.8 * random.normal(size=len(recipes)))
    frame["val/accuracy"] = (frame["optimizer"] == "Adam") / 2 + frame["pretrained"] / 10
    result = answer(frame, "a/b/c")
    holm = {one.row: one.p_corrected for one in effects.at_the_winner(RunsByRecipe(frame), 1)}
    candidates = len(result.contenders) + 1
    assert candidates > 2 and {one.effect.mean > 0 for one in result.effects} == {True, False}
    for one in result.effects:
        factor = 1 if one.effect.mean > 0 else candidates
        assert one.p_corrected == pytest.approx(min(1, factor * holm[one.row]))
    assert "Where row 1 comes out better, they are also multiplied by" in " ".join(
        method.sentences(result, frame)
    )
