"""What clients send, for strategies to spoil: a run of every kind of media, sweeps, views, manifests."""

from __future__ import annotations

from typing import Any

TABLE_PATH, IMAGE_PATH, BOXES_PATH = "media/table/t.table.json", "media/images/i.png", "media/metadata/b.json"

BOX = {
    "position": {"middle": [0.5, 0.5], "width": 0.1, "height": 0.2},
    "class_id": 1,
    "scores": {"acc": 0.5},
    "box_caption": "a car",
    "domain": "pixel",
}
BOXES = {"box_data": [BOX], "class_labels": {"1": "car"}, "class_set": [{"id": 1, "name": "car"}]}
IMAGE = {
    "_type": "image-file",
    "path": IMAGE_PATH,
    "width": 8,
    "height": 8,
    "caption": "c",
    "boxes": {"g": {"path": BOXES_PATH}},
    "masks": {"g": {"path": IMAGE_PATH}},
    "classes": {"path": BOXES_PATH},
}
MEDIA: dict[str, Any] = {
    "image": IMAGE,
    "images": {
        "_type": "images/separated",
        "filenames": ["i.png", "i.png"],
        "captions": ["a", "b"],
        "all_boxes": [{"g": {"path": BOXES_PATH}}],
        "all_masks": [{"g": {"path": IMAGE_PATH}}],
    },
    "table": {"_type": "table-file", "path": TABLE_PATH, "artifact_path": "wandb-client-artifact://c/t"},
    "growing": {
        "_type": "incremental-table-file",
        "path": TABLE_PATH,
        "previous_increments_paths": ["wandb-client-artifact://c/t.table.json"],
    },
    "plot_table": {"_type": "table-file", "path": TABLE_PATH},
    "bins": {"_type": "histogram", "bins": [0, 1, 2], "values": [3, 4]},
    "packed": {"_type": "histogram", "packedBins": {"min": 0, "size": 1}, "values": [3, 4]},
    "sound": {"_type": "audio", "audio": [{"path": IMAGE_PATH, "caption": "s"}]},
    "html": {"_type": "html-file", "path": IMAGE_PATH},
}
TABLES = [
    {"columns": ["Actual", "Predicted", "nPredictions"], "data": [["a", "b", 3], ["b", "b", 4]]},
    {"columns": ["image", "actual", "predicted"], "data": [[IMAGE, "a", "b"], [IMAGE, "b", "b"]]},
    {"columns": ["x", "y", "stroke"], "data": [[1, 2.5, "one"], [2, 3.5, "two"]]},
    {"columns": ["value"], "data": [[1], [2.5], [None]]},
]
CONFIG: dict[str, Any] = {
    "lr": {"value": 0.1},
    "net": {"value": {"depth": 2, "kind": "cnn"}},
    "seed": {"value": 1},
    "_wandb": {
        "value": {
            "m": [{"1": "epoch", "6": [3]}, {"1": "acc", "5": 1, "6": [2]}, {"2": "*", "5": 1}],
            "visualize": {
                "plot": {
                    "panel_config": {
                        "panelDefId": "wandb/line/v0",
                        "fieldSettings": {"x": "x", "y": "y"},
                        "stringSettings": {"title": "t"},
                    }
                }
            },
            "e": {
                "w": {
                    "host": "h",
                    "program": "train.py",
                    "args": ["--a"],
                    "executable": "python",
                    "root": "/",
                    "git": {"commit": "abc", "remote": "r"},
                    "startedAt": "2026",
                    "os": "Linux",
                }
            },
            "mask/class_labels": {"image_wandb_delimeter_g": {"value": {"1": "car"}}},
            "branch_point": {"run_id": "none", "step": 1},
        }
    },
}
del CONFIG["_wandb"]["value"]["branch_point"]
NUMBERS = {"acc": 0.5, "train/loss": 1.5, "epoch": 1, "net": {"v": 2}}
SUMMARY = {**NUMBERS, **MEDIA, "_runtime": 3.5, "_step": 2, "_timestamp": 1.7e9}
ROW = {**NUMBERS, "image": IMAGE, "bins": MEDIA["bins"], "_step": 1, "_runtime": 1.5, "_timestamp": 1.7e9}
EVENT = {"system.cpu": 0.5, "_runtime": 1.5, "_timestamp": 1.7e9}
CONSOLE = {"ts": "2026-01-01T00:00:00.000000", "content": "loss 0.1\r\n", "level": "error", "label": "n"}
END = {"complete": True, "exitcode": 0, "preempting": False}

SWEEP = {
    "method": "bayes",
    "metric": {"name": "acc", "goal": "maximize", "target": 2, "impute": "worst"},
    "parameters": {
        "lr": {"min": 0.1, "max": 0.9},
        "opt": {"values": ["sgd", "adam"], "probabilities": [0.5, 0.5]},
        "net": {"parameters": {"depth": {"distribution": "int_uniform", "min": 1, "max": 3}}},
        "seed": {"value": 1},
    },
    "early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 2},
    "run_cap": 3,
    "controller": {"type": "cloud", "seed": 1},
    "name": "n",
    "program": "train.py",
}
OTHER_SWEEPS = [
    SWEEP | {"method": "random"},
    {
        "method": "grid",
        "parameters": {"a": {"values": [1, 2]}, "b": {"distribution": "q_uniform", "min": 0, "max": 1}},
    },
    {
        "method": "custom",
        "scheduler": {"engine": "optuna"},
        "parameters": SWEEP["parameters"],
        "metrics": [{"name": "acc"}],
    },
]

MANIFEST = {
    "version": 1,
    "storagePolicy": "wandb-storage-policy-v1",
    "contents": {
        "t.table.json": {"digest": "", "size": 10, "extra": {}},
        "far": {"digest": "x", "ref": "s3://bucket/file", "size": 3},
    },
}

RUN_SET = {
    "enabled": True,
    "project": {"entityName": "local", "name": "p"},
    "filters": {
        "op": "OR",
        "filters": [
            {
                "op": "AND",
                "filters": [
                    {"key": {"section": "config", "name": "lr"}, "op": "=", "value": 0.1, "disabled": False}
                ],
            }
        ],
    },
    "sort": {"keys": [{"key": {"section": "summary", "name": "acc"}, "ascending": True}]},
    "search": {"query": "r"},
    "grouping": [],
}
PANELS: list[dict[str, Any]] = [
    {
        "viewType": "Run History Line Plot",
        "config": {"metrics": ["acc"], "xAxis": "_step", "chartTitle": "t"},
    },
    {"viewType": "Scatter Plot", "config": {"xAxis": "config:lr.value", "yAxis": "summary:acc"}},
    {"viewType": "Bar Chart", "config": {"metrics": ["acc"]}},
    {
        "viewType": "Parallel Coordinates Plot",
        "config": {"columns": [{"accessor": "config:lr.value"}, {"accessor": "summary:acc"}]},
    },
    {"viewType": "Parameter Importance", "config": {"targetKey": "acc"}},
    {"viewType": "Run Comparer", "config": {"diffOnly": True}},
    {"viewType": "Scalar Chart", "config": {"metrics": ["acc"]}},
    {"viewType": "Media Browser", "config": {"mediaKeys": ["image"]}},
    {"viewType": "Markdown Panel", "config": {"value": "*a* [b](c)"}},
]
TEXT = [{"text": "a", "bold": True}, {"type": "link", "url": "https://x", "children": [{"text": "b"}]}]
REPORT = {
    "blocks": [
        {
            "type": "heading",
            "level": 1,
            "children": TEXT,
            "collapsedChildren": [{"type": "paragraph", "children": TEXT}],
        },
        {
            "type": "list",
            "ordered": True,
            "children": [{"type": "list-item", "checked": True, "children": TEXT}],
        },
        {"type": "code-block", "children": [{"type": "code-line", "children": TEXT}]},
        {"type": "markdown-block", "content": "# a\n* b"},
        {"type": "image", "url": "https://x/y.png", "children": TEXT},
        {
            "type": "panel-grid",
            "metadata": {"runSets": [RUN_SET], "panelBankSectionConfig": {"panels": PANELS}},
        },
    ]
}
WORKSPACE = {
    "section": {
        "runSets": [RUN_SET],
        "panelBankConfig": {"sections": [{"name": "s", "panels": PANELS}]},
    }
}
