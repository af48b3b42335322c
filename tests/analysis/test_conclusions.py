"""Sentences about interactions, families of p-values and what to run next; test_answer.py has the others."""

import numpy as np
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import certainty, conclusions, method
from wandb_tl.analysis.answer import answer


def told(effect, seeds=range(5), noise=0.3):
    random = np.random.default_rng(0)
    frame = runs_of(grid(GRID, seeds), lambda c: 80 + effect(c) + noise * random.normal())
    return answer(frame, "a/b/c"), frame


def test_an_interaction_names_its_recipes_and_its_corrected_p():
    result, _ = told(lambda c: 15 * c.pretrained - 20 + 5 * (c.finetuning and c.optimizer == "Adam"))
    one = result.interactions[0]
    sentence = conclusions.interaction(one)
    shape = (
        f"by \N{MINUS SIGN}{-one.effect.mean:.2f} ± {one.effect.half_width:.2f} points (corrected p < 0.001; "
    )
    assert sentence == (
        "The effect of `finetuning` depends on `optimizer` with `pretrained=True`: " + shape + "rows 1-4)."
    )
    assert "at most 1.5 times the errors" in conclusions.about_interactions(result.interactions)
    assert "corrected for 1 interaction (Holm)" in conclusions.about_interactions(result.interactions)


def test_families_of_p_values_are_stated_where_they_are_quoted():
    result, frame = told(lambda c: 3 * c.pretrained)
    contenders = len(result.contenders) + 1
    assert contenders > 1
    stated = (
        f"corrected for 3 changes (Holm) and multiplied by {contenders}, because {contenders} recipes may"
    )
    assert stated in conclusions.about_effects(result)
    sentences = " ".join(method.sentences(result, frame))
    assert "corrected by Holm for 7." in sentences and f"multiplied by {contenders}" in sentences
    # Of five seeds, 2 of the 32 patterns of signs are as extreme as equal signs.
    assert (
        f"no p below {2 / 32:.3g} exists" in sentences and f"in {100 * 0.8**5:.0f} % of sweeps" in sentences
    )


def test_the_next_step_says_what_it_settles_or_varies():
    settled, _ = told(lambda c: 8 * c.pretrained + 4 * c.finetuning + 2 * (c.optimizer == "Adam"))
    assert conclusions.next_step(settled) == "to vary `lr`, which no run of this sweep has varied (15 runs)"
    assert "`lr`" in conclusions.never_varied(settled)
    single, _ = told(lambda c: 8 * c.pretrained + 4 * c.finetuning + 2 * (c.optimizer == "Adam"), [0])
    step = conclusions.next_step(single)
    assert (
        step == "to settle row 1 against row 2 with 5 new seeds each, as those so far chose row 1 (10 runs)"
    )
    similar, _ = told(lambda c: 8 * c.pretrained + 4 * c.finetuning, noise=0)
    assert any("so similar to row 1 that 12 seeds" in one for one in certainty.cautions(similar))


def test_single_runs_are_compared_by_their_test_images_alone():
    def told(*accuracies: float) -> str:
        frame = runs_of(grid({"optimizer": ["Adam", "SGD", "AdamW"][: len(accuracies)]}, [0]), [*accuracies])
        return " ".join(certainty.sentences(answer(frame, "a/b/c")))

    assert "the other recipe is not behind by more than the choice" in told(80.0, 79.9)
    assert "the other recipe is behind by more" in told(80.0, 10.0)
    assert "1 of the 2 other recipes is behind by more" in told(80.0, 79.9, 10.0)
    assert "both other recipes are behind by more" in told(80.0, 20.0, 10.0)
