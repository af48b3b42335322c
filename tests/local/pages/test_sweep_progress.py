"""How far a sweep is, and how long it still takes."""

from __future__ import annotations

import pytest

from wandb_tl.local.pages.sweep_progress import seconds_left
from wandb_tl.local.pages.values import Run
from wandb_tl.local.records.run_states import ENDED, LIVE, RunState


def run(state: str, seconds: float = 0.0) -> Run:
    texts = {"id": state, "name": state, "color": "", "dash": ""}
    nothing = {"config": {}, "summary": {}, "tags": [], "group": None, "job_type": None, "sweep": None}
    return Run(state=state, created=0.0, seconds=seconds, row=None, **texts, **nothing)


def test_a_run_that_is_handed_out_again_has_not_ended() -> None:
    assert set(ENDED) | set(LIVE) == set(RunState) - {RunState.PREEMPTED}


@pytest.mark.parametrize(
    ("runs", "expected", "agents", "seconds"),
    [
        # Two of 60 s have finished; two are left for one agent, for two, and for more than there are runs.
        ([run("finished", 50), run("finished", 70)], 4, 1, 120),
        ([run("finished", 50), run("finished", 70)], 4, 2, 60),
        ([run("finished", 50), run("finished", 70)], 4, 9, 60),
        # What live runs have done is not left; a run that takes longer than the others is about to end.
        ([run("finished", 60), run("running", 45)], 2, 1, 15),
        ([run("finished", 60), run("running", 500)], 2, 1, 0),
        # A preempted run is still to come, a failed one is not, and says nothing of the others' time.
        ([run("finished", 60), run("preempted", 10)], 2, 1, 60),
        ([run("finished", 60), run("failed", 1)], 3, 1, 60),
        ([run("finished", 60)], 1, 1, 0),
        ([run("running", 60)], 2, 1, None),
        ([run("finished", 60)], 2, 0, None),
        ([run("finished", 60)], None, 1, None),
    ],
)
def test_the_time_left_is_that_of_finished_runs(
    runs: list[Run], expected: int | None, agents: int, seconds: float | None
) -> None:
    assert seconds_left(runs, expected, agents) == seconds
