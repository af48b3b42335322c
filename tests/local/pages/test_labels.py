"""What a run is called among others."""

from __future__ import annotations

from typing import Any

from wandb_tl.local.pages.labels import label_runs, telling
from wandb_tl.local.pages.values import Run


def run(number: int, config: dict[str, Any], name: str = "", sweep: str | None = "s") -> Run:
    return Run(
        id=f"r{number}",
        name=name or f"a-long-name-that-says-nothing-about-run-{number}",
        state="finished",
        created=0,
        seconds=0,
        config=config,
        summary={},
        tags=[],
        group=None,
        job_type=None,
        sweep=sweep,
        color="#000000",
        dash="solid",
        row={},
    )


def labels(*configs: dict[str, Any], names: tuple[str, ...] = (), sweep: str | None = "s") -> list[str]:
    runs = [run(i, config, names[i] if names else "", sweep) for i, config in enumerate(configs)]
    label_runs(runs)
    return [run.label for run in runs]


def test_labels_are_made_of_what_differs_with_the_seed_at_the_end() -> None:
    same = {"model": "resnet50", "epochs": 5}
    assert labels(
        same | {"seed": 1, "finetuning": True, "optimizer": "Adam"},
        same | {"seed": 0, "finetuning": False, "optimizer": "SGD"},
    ) == ["finetuning · Adam · seed 1", "not finetuning · SGD · seed 0"]


def test_values_that_say_too_little_alone_come_with_their_key() -> None:
    assert labels({"augment": "none", "lr": 0.001}, {"augment": "flip", "lr": 0.0001}) == [
        "augment none · lr 0.001",
        "flip · lr 0.0001",
    ]
    assert labels({"a": "x", "b": "y"}, {"a": "y", "b": "x"}) == ["a x · b y", "a y · b x"]
    assert (
        labels({"net.size": 1, "crop.size": 2}, {"net.size": 3, "crop.size": 4})[0]
        == "net.size 1 · crop.size 2"
    )
    assert labels({"data_dir": "/home/me/flowers"}, {"data_dir": ""}) == ["data dir flowers", "no data dir"]
    assert labels({"lr": 1, "only": True}, {"lr": 2}) == ["lr 1 · only", "lr 2"]


def test_numbers_keep_the_digits_that_tell_them_apart() -> None:
    assert labels({"lr": 0.0123456}, {"lr": 0.0123123}) == ["lr 0.01235", "lr 0.01231"]
    assert labels({"lr": 0.0123456}, {"lr": 0.5}) == ["lr 0.0123", "lr 0.5"]


def test_runs_that_nothing_tells_apart_get_their_ids() -> None:
    assert labels({"lr": 1}, {"lr": 1}, {"lr": 2}) == ["lr 1 · r0", "lr 1 · r1", "lr 2"]
    assert labels({"lr": 1}) == ["a-long-name-that-says-nothing-about-run-0"]


def test_a_name_that_a_person_gave_stays() -> None:
    configs = {"lr": 1}, {"lr": 2}
    assert labels(*configs, names=("baseline", "better"), sweep=None) == ["baseline", "better"]
    assert labels(*configs, names=("baseline", "better")) == ["lr 1", "lr 2"]
    assert labels(*configs, names=("misty-river-1", "calm-sun-2"), sweep=None) == ["lr 1", "lr 2"]
    assert labels(*configs, names=("same", "same"), sweep=None) == ["lr 1", "lr 2"]


def test_of_many_keys_those_that_tell_most_runs_apart_are_taken() -> None:
    columns = {f"k{i}": [i == j for j in range(8)] for i in range(8)}
    assert telling(columns | {"id": list(range(8)), "seed": [0, 1] * 4}) == ["id"]
    few = {"seed": [0, 1], "lr": [1, 2]}
    assert telling(few) == ["lr", "seed"]
