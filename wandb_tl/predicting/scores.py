"""How often predictions are right, for pictures whose classes are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from wandb_tl.analysis.proportions import exact_interval
from wandb_tl.predicting.classifier import Prediction

PAIRS_SHOWN = 5


@dataclass
class Scores:
    """Classified pictures by actual and predicted class. unreadable: pictures without a prediction."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    unreadable: int = 0

    def add(self, actual: str, prediction: Prediction) -> None:
        """Count the prediction for a picture of this class."""
        if prediction.problem:
            self.unreadable += 1
        else:
            self.counts[actual, prediction.label] += 1

    @property
    def hits(self) -> int:
        return sum(count for (actual, label), count in self.counts.items() if actual == label)

    def text(self) -> str:
        """The accuracy with its 95 % interval, the majority share, and the most confused pairs, in lines."""
        total = self.counts.total()
        low, high = exact_interval(self.hits, total)
        by_class: Counter[str] = Counter()
        for (actual, _), count in self.counts.items():
            by_class[actual] += count
        ((majority, most),) = by_class.most_common(1)
        lines = [
            f"Accuracy: {100 * self.hits / total:.2f} % ({self.hits:,} of {total:,} pictures), 95 % interval "
            f"{low:.2f} to {high:.2f} %",
            f"A model that always answers {majority} has {100 * most / total:.2f} %.",
        ]
        mistakes = Counter({pair: count for pair, count in self.counts.items() if pair[0] != pair[1]})
        pairs = [f"{actual} as {label} ({n:,})" for (actual, label), n in mistakes.most_common(PAIRS_SHOWN)]
        if pairs:
            lines.append(f"Most frequent mistakes: {', '.join(pairs)}")
        if self.unreadable:
            lines.append(f"Not counted, because they cannot be read: {self.unreadable:,}")
        return "\n".join(lines)
