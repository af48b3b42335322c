from __future__ import annotations

from wandb_tl.local.records.kept import Kept


def test_the_last_results_are_kept_by_their_size() -> None:
    computed = []

    def double(text: str) -> str:
        computed.append(text)
        return 2 * text

    kept = Kept(double, 9, lambda text, result: len(text) + len(result))
    assert [kept("a"), kept("b"), kept("a"), kept("bb")] == ["aa", "bb", "aa", "bbbb"]
    # The result for "b" had to go: it was used before that for "a".
    assert list(kept.results) == ["a", "bb"] and kept.characters == 9
    assert [kept("a"), kept("b")] == ["aa", "bb"] and computed == ["a", "b", "bb", "b"]
    # A large one is not kept, and takes the place of no other.
    assert kept("long") == "longlong" and list(kept.results) == ["a", "b"] and kept.characters == 6
