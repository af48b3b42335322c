"""The answer that the commands, the report and a notebook share."""

from sweep_frames import GRID, grid, runs_of

from wandb_tl import export_table
from wandb_tl.analysis import compare
from wandb_tl.analysis.proportions import McNemar


class Runs:
    """Runs whose two best models disagree on 180 test images. reads: which runs' predictions were read."""

    path = "a/b/c"

    def __init__(self, seeds: int) -> None:
        self.seeds, self.reads = seeds, []

    def frame(self):
        return runs_of(grid(GRID, range(self.seeds)), lambda c: 70 + 10 * c.pretrained + c.finetuning)

    def media(self, run_id, keys):
        return {}

    def image_by_image(self, recipes):
        self.reads.append(tuple(recipes["best_run"].iloc[:2]))
        return McNemar(120, 60, 10_000, 0.0002)


def test_one_seed_is_compared_image_by_image_everywhere_and_read_once(tmp_path):
    source = Runs(1)
    result = compare.answer_of(source, source.frame())
    best = tuple(recipe.best_run for recipe in result.recipes[:2])
    assert result.mcnemar == McNemar(120, 60, 10_000, 0.0002) and source.reads == [best]
    assert export_table.export(source, tmp_path).mcnemar == result.mcnemar and len(source.reads) == 2
    several = Runs(2)
    assert compare.answer_of(several, several.frame()).mcnemar is None and several.reads == []
