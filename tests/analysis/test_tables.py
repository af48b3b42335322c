"""Tables as text, Markdown and LaTeX."""

from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import effects, runs_by_recipe, tables
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe

TABLE_1 = ["Pretrained", "Finetuning", "Optimizer", "Avg Train Loss", "Avg Train Accuracy", "Test Accuracy"]


def results(frame, **options):
    return tables.results(frame, runs_by_recipe.recipes(frame), **options)


def test_columns_of_the_original_table():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[3]), [80.125, 81.5])
    cells = results(frame)
    assert list(cells) == TABLE_1
    assert cells.iloc[0].tolist() == ["True", "False", "SGD", f"{1 / 81.5:.4f}", "0.8150", "81.50"]


def test_other_hyperparameters_that_differ_come_first():
    frame = runs_of(grid({"lr": [0.1, 0.01]}, seeds=[0]), [80.0, 81.0])
    assert list(results(frame)) == ["lr", *TABLE_1] and results(frame)["lr"].tolist() == ["0.01", "0.1"]


def test_seeds_give_one_row_with_an_interval():
    frame = runs_of(grid({"optimizer": ["Adam"]}, seeds=[0, 1, 2]), [80.0, 81.0, 82.0])
    [row] = results(frame, numbered=True).to_dict("records")
    # The half width is 4.303 (t of 0.975 with two degrees of freedom, from a table) / sqrt(3).
    assert row["Test Accuracy"] == "81.00 ± 2.48" and row["n"] == "3" and row["Row"] == "1"


def test_what_has_no_effect_is_left_empty():
    frame = runs_of(
        grid({"optimizer": ["Adam", "SGD"], "weight_decay": [0.0, 0.1]}, seeds=[0]), [90, 90, 1, 2]
    )
    cells = results(frame)
    assert cells["Optimizer"].tolist() == ["Adam", "SGD", "SGD"]
    assert cells["weight_decay"].tolist() == ["", "0.1", "0"]


def test_costs_leave_out_what_no_run_reports():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0, 1, 2]), [80, 81, 82, 90, 91, 92])
    cells = tables.costs(answer(frame, "a/b/c").recipes)
    # The second recipe is the better one: its runs took 13, 14 and 15 seconds.
    assert cells["Train seconds"].tolist() == ["14.0", "11.0"] and "Energy, Wh" not in cells
    assert cells["Slowest run, s"].tolist() == ["15.0", "12.0"]
    frame["energy_wh"] = [1.0, 2.0, 9.0, 3.0, 4.0, float("nan")]
    assert tables.costs(answer(frame, "a/b/c").recipes)["Energy, Wh"].tolist() == ["3.50", "2.00"]


def test_changes_of_the_winner_and_their_verdicts():
    frame = runs_of(
        grid(GRID), lambda config: 80 + 10 * config.pretrained + (config.seed + config.finetuning) % 2 / 10
    )
    result = answer(frame, "a/b/c")
    cells = tables.effects(result).set_index("Change")
    line = cells.loc["pretrained: True → False"]
    assert line["Points"].startswith("\N{MINUS SIGN}10.00") and line["Verdict"] == "settled"
    assert line["p"] == line["p (corrected)"] == "< 0.001" and line["Seeds"] == "5"
    assert cells.loc["optimizer: Adam → SGD", "Verdict"] == "not settled: equal in each seed"


def test_two_hyperparameters_that_act_together_are_a_table_of_means():
    frame = runs_of(grid(GRID), lambda c: 80 + 2 * (c.finetuning and c.optimizer == "Adam") + c.seed % 2 / 10)
    one = answer(frame, "a/b/c").interactions[0]
    cells = tables.interaction(one)
    assert cells.to_dict("list") == {
        "": ["optimizer=Adam", "optimizer=SGD", "difference"],
        "finetuning=False": ["80.04", "80.04", ""],
        "finetuning=True": ["82.04", "80.04", ""],
        "Effect of finetuning": ["+2.00 ± 0.00", "0.00 ± 0.00", "\N{MINUS SIGN}2.00 ± 0.00"],
    }


def test_numbers_have_every_comparison():
    frame = runs_of(grid(GRID), lambda c: 80 + 2 * c.pretrained + c.seed % 2 / 10)
    result = answer(frame, "a/b/c")
    pairs = effects.pairs(RunsByRecipe(frame))
    data = tables.numbers(result, pairs)
    assert data["kind"].value_counts().to_dict() == {"pair": 12, "at the winner": 3, "interaction": 3}
    first = data.iloc[0]
    assert (first["points"], first["seeds"]) == (result.effects[0].effect.mean, 5)
    cells = tables.pairs(pairs)
    assert len(cells) == 12 and set(cells["Points"][:4]) == {"+2.00 ± 0.00"}


def test_total_time():
    frame = runs_of(grid({}, seeds=[0, 1]), [80.0, 81.0])
    assert tables.total_time(frame) == "Total training time of the 2 runs: 21.00 s on CPU."
    frame.attrs["left_out"] = {"crashed": 1, "failed": 2}
    assert tables.total_time(frame).endswith(" on CPU. Left out: 1 crashed, 2 failed.")


def test_what_to_know_about_the_test_images():
    frame = runs_of(grid({}, seeds=[0, 1]), [80.0, 81.0])
    assert tables.test_images(frame) == ""
    frame = frame.assign(majority_share=95.0, test_is_val=0.0, skipped_images=0.0)
    always = "A model that always answers the most frequent class has 95.00 % test accuracy."
    assert tables.test_images(frame) == always
    text = tables.test_images(frame.assign(test_is_val=1.0, skipped_images=3.0))
    assert text.startswith(f"{always} There is no test split") and text.endswith(
        "3 unreadable pictures were left out."
    )


def test_validation_accuracy_is_in_per_cent_as_test_accuracy_is():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, [0]), [81.0, 80.0])
    frame["val/accuracy"] = [0.83333, 0.5]
    cells = tables.results(frame, runs_by_recipe.recipes(frame))
    assert cells["Val Accuracy, %"].tolist() == ["83.33", "50.00"]
    assert cells["Test Accuracy"].tolist() == ["81.00", "80.00"]
    assert cells["Avg Train Accuracy"].tolist() == ["0.8100", "0.8000"]


def test_the_short_table_has_what_orders_the_recipes():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, [0, 1]), [81.0, 81.0, 80.0, 80.0])
    short = ["Row", "optimizer", "Test accuracy, %", "Seeds", "Seconds"]
    assert list(tables.recipes(answer(frame, "a/b/c"), 9)) == short
    frame["val/accuracy"] = [0.5, 0.6, 0.8, 0.9]
    cells = tables.recipes(answer(frame, "a/b/c"), 9)
    assert list(cells) == [*short[:2], "Val accuracy, %", *short[2:]]
    assert cells[["optimizer", "Val accuracy, %"]].to_numpy().tolist() == [
        ["SGD", "85.00"],
        ["Adam", "55.00"],
    ]
    frame.attrs["metric"] = "test/f1_macro"
    frame["test/f1_macro"] = [0.7, 0.8, 0.1, 0.2]
    assert tables.recipes(answer(frame, "a/b/c"), 1).iloc[0].tolist()[1:3] == ["Adam", "0.7500"]
