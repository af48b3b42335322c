"""One client process that logs media, Tables, charts and a report of all kinds, for tests of the pages."""

from __future__ import annotations

from live_server import Server

# Logs into the project "gallery": runs "one" and "two", and a report.
SCRIPT = """
import json, math, pathlib
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import wandb
import wandb_workspaces.reports.v2 as wr
from PIL import Image

CLASSES = {0: "sky", 1: "road", 2: "<i>car</i>"}

def pixels(shade):
    return np.full((24, 32, 3), shade, dtype="uint8")

def annotated():
    mask = np.zeros((24, 32), dtype="uint8"); mask[12:] = 1; mask[4:8, 4:8] = 2
    boxes = [
        {"position": {"minX": 0.25, "maxX": 0.75, "minY": 0.5, "maxY": 1.0}, "class_id": 1,
         "box_caption": "a road", "scores": {"acc": 0.75}},
        {"position": {"middle": [8, 6], "width": 8, "height": 4}, "domain": "pixel", "class_id": 2},
    ]
    return wandb.Image(pixels(90), caption="a street",
        boxes={"predictions": {"box_data": boxes, "class_labels": CLASSES}},
        masks={"ground_truth": {"mask_data": mask, "class_labels": CLASSES}},
        classes=[{"id": i, "name": name} for i, name in CLASSES.items()])

def predictions():
    rows = [[wandb.Image(pixels(10 * i)), "bag" if i % 2 else "shirt", "bag" if i < 5 else "shirt", i / 8]
            for i in range(8)]
    return wandb.Table(columns=["image", "actual", "predicted", "confidence"], data=rows)

def everything(run):
    run.log({"epoch": 3, "feature_maps/conv1": wandb.Image(pixels(1)), "grad_cam": wandb.Image(pixels(2)),
             "examples": wandb.Image(pixels(3)), "class_report": wandb.Image(pixels(4)),
             "confusion_matrix": wandb.Image(pixels(5)), "secret": wandb.Image(pixels(6)),
             "curves": wandb.Image(pixels(7)), "reliability": wandb.Image(pixels(8))})
    run.log({"epoch": 3, "annotated": annotated(), "pair": [annotated(), annotated()]})
    figure, axes = plt.subplots(); axes.plot([1, 2, 4]); axes.set_title("squares")
    run.log({"epoch": 3, "matplotlib": figure, "still": wandb.Image(plt.figure()),
             "plotly": wandb.Plotly(go.Figure(go.Bar(x=["a", "b"], y=[1, 3], name="sales"))),
             "grid": wandb.Plotly(go.Figure(go.Heatmap(x=["a", "b"], z=np.arange(4.0).reshape(2, 2)))),
             "shares": wandb.Plotly(go.Figure([go.Pie(labels=["a", "b"], values=[1, 3]), go.Box(y=[5])]))})
    clip = np.random.default_rng(0).integers(0, 255, (4, 3, 16, 16), dtype="uint8")
    Image.fromarray(pixels(0)).save("moving.gif", save_all=True, append_images=[Image.fromarray(pixels(200))])
    pathlib.Path("clip.mp4").write_bytes(b"not decoded by the tests")
    pathlib.Path("beep.wav").write_bytes(b"RIFF not decoded by the tests")
    pathlib.Path("water.pdb").write_text("HETATM    1  O   HOH A   1       0.0   0.0   0.0")
    run.log({"epoch": 3, "gif": wandb.Video("moving.gif", format="gif"),
             "clip": wandb.Video("clip.mp4", format="mp4"),
             "beep": wandb.Audio("beep.wav", caption="a beep"),
             "points": [wandb.Object3D(np.random.default_rng(1).random((20, 3))) for _ in range(2)],
             "molecule": wandb.Molecule("water.pdb"),
             "html": wandb.Html("<p id=inside>hello</p>")})
    run.log({"epoch": 3, "predictions": predictions(),
             "matrix": wandb.plot.confusion_matrix(y_true=[0, 1, 1, 1], preds=[0, 1, 0, 1],
                                                   class_names=["shirt", "bag"]),
             "confusion_counts": wandb.Table(columns=["actual", "predicted", "count"],
                 data=[["shirt", "shirt", 1], ["shirt", "bag", 3], ["bag", "bag", 6], ["bag", "shirt", 2]])})
    long = [[i, f"name {i % 7}", math.sin(i), i % 2 == 0] for i in range(5000)]
    run.log({"epoch": 3, "long": wandb.Table(columns=["i", "name", "sine", "even"], data=long)})
    many = [[f"class {i}", f"class {(i + 1) % 1000}", 1 + i] for i in range(1000)]
    run.log({"epoch": 3, "thousand": wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=many)})
    growing = wandb.Table(columns=["step", "loss"], log_mode="INCREMENTAL")
    for step in range(3):
        growing.add_data(step, 1 / (step + 1))
        run.log({"epoch": 3, "growing": growing})
    run.summary["only_summary"] = wandb.Image(pixels(77))
    version = wandb.Artifact("results", "dataset")
    version.add(predictions(), "rows")
    version.add_file("moving.gif")
    run.log_artifact(version).wait()

for name in ("one", "two"):
    config = {"lr": 0.1 if name == "one" else 0.2}
    with wandb.init(project="gallery", id=name, name=f"run {name}", config=config) as run:
        run.define_metric("epoch", hidden=True)
        run.define_metric("secret", hidden=True)
        run.define_metric("*", step_metric="epoch")
        for epoch in (1, 2, 3):
            shade = 40 * epoch + (name == "two")
            row = {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 1 / (epoch + 1)}
            run.log(row | {"sample": wandb.Image(pixels(shade), caption=f"epoch {epoch}"),
                           "weights": wandb.Histogram([1, 2, 2, epoch])})
            if epoch < 3:
                run.log({"epoch": epoch, "late": wandb.Image(pixels(shade))})
        if name == "one":
            everything(run)

runset = wr.Runset(entity="local", project="gallery", name="Both")
panels = [
    wr.LinePlot(title="Losses", x="epoch", y=["loss"]),
    wr.ScatterPlot(title="Dots", x=wr.Config("lr"), y=wr.SummaryMetric("accuracy")),
    wr.BarPlot(title="Bars", metrics=["accuracy"]),
    wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(metric=metric)
                                        for metric in (wr.Config("lr"), wr.SummaryMetric("accuracy"))]),
    wr.ParameterImportancePlot(with_respect_to="accuracy"),
    wr.RunComparer(diff_only=True),
    wr.MediaBrowser(media_keys=["sample"]),
    wr.ScalarChart(title="Best", metric="accuracy"),
    wr.MarkdownPanel(markdown="*in* a panel"),
]
text = '''# Findings

Some **bold** words, `code`, a [link](https://example.org) and <script>document.title = 1</script>.

| recipe | accuracy |
|:--|--:|
| Adam | 0.91 |

1. first
2. second

```python
print("<hello>")
```

![inline](https://example.org/tracker.png)
[bad](javascript:alert(1))
'''
report = wr.Report(entity="local", project="gallery", title="What <b>we</b> saw", description="Both runs")
report.blocks = [
    wr.H1("First"),
    wr.P(["See ", wr.Link("the runs", "https://example.org/x"), " and ", wr.InlineCode("x = 1"), "."]),
    wr.H2("Second"), wr.H3("Third"),
    wr.UnorderedList(items=["apples", "pears"]), wr.OrderedList(items=["one", "two"]),
    wr.CheckedList(items=[wr.CheckedListItem("done", checked=True),
                          wr.CheckedListItem("open", checked=False)]),
    wr.CodeBlock(code="import wandb", language="python"), wr.BlockQuote("a quote"),
    wr.CalloutBlock("careful"),
    wr.HorizontalRule(), wr.MarkdownBlock(text), wr.LatexBlock("x^2"), wr.TableOfContents(),
    wr.Image(url="https://example.org/picture.png", caption="elsewhere"),
    wr.H2("Panels"), wr.PanelGrid(runsets=[runset], panels=panels),
]
report.save()
print(json.dumps(report.id))
"""


def log_everything(server: Server) -> None:
    """Run SCRIPT as a client of the server."""
    server.run(SCRIPT)
