"""Results of functions of a text that are kept, within a bound on the memory that they take."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class Kept(Generic[R]):
    """A function that keeps its last results. Do not change them.

    most: characters of all that is kept. size: those of a text and its result, by default of the text alone.
    What is larger than `most` by itself is not kept.
    """

    def __init__(
        self,
        function: Callable[[str], R],
        most: int,
        size: Callable[[str, R], int] = lambda text, _result: len(text),
    ) -> None:
        self.function, self.most, self.size = function, most, size
        self.results: OrderedDict[str, tuple[R, int]] = OrderedDict()
        self.characters = 0
        self.lock = threading.Lock()

    def __call__(self, text: str) -> R:
        with self.lock:
            if text in self.results:
                self.results.move_to_end(text)
                return self.results[text][0]
        # Without the lock: another thread may meanwhile compute the same.
        result = self.function(text)
        size = self.size(text, result)
        if size <= self.most:
            with self.lock:
                self._keep(text, result, size)
        return result

    def _keep(self, text: str, result: R, size: int) -> None:
        if text not in self.results:
            self.characters += size
            self.results[text] = result, size
        while self.characters > self.most:
            _, (_, oldest) = self.results.popitem(last=False)
            self.characters -= oldest
