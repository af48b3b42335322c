import hashlib
from collections import Counter

import pytest

from wandb_tl.errors import InputError
from wandb_tl.pictures import splitting


def images(count: int, classes: int) -> tuple[list[str], list[str]]:
    """Digests and labels of as many images of each class."""
    labels = [f"class {number % classes}" for number in range(count * classes)]
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(labels))], labels


def test_an_added_image_moves_no_other():
    digests, labels = images(200, 3)
    everything = dict(zip(digests, splitting.hold_out(digests, labels, 0.2, "test"), strict=True))
    for removed in range(0, 600, 7):
        fewer = [*digests[:removed], *digests[removed + 1 :]]
        kept = [*labels[:removed], *labels[removed + 1 :]]
        held_out = splitting.hold_out(fewer, kept, 0.2, "test")
        assert held_out == [everything[digest] for digest in fewer]


def test_each_class_gives_about_its_share_and_at_least_one_image():
    digests, labels = images(500, 4)
    counts = Counter(
        label
        for label, out in zip(labels, splitting.hold_out(digests, labels, 0.2, "val"), strict=True)
        if out
    )
    assert set(counts) == set(labels) and all(70 < count < 130 for count in counts.values())
    # 120 classes of five images: by chance alone, a third of the classes would have none.
    digests, labels = images(5, 120)
    for fraction in (0.01, 0.2, 0.99):
        held_out = splitting.hold_out(digests, labels, fraction, "val")
        for wanted in (True, False):
            chosen = {label for label, out in zip(labels, held_out, strict=True) if out is wanted}
            assert chosen == set(labels)


def test_a_class_of_one_image_keeps_it_for_training_and_copies_stay_together():
    digests = ["a", "b", "c", "d", "d"]
    assert splitting.hold_out(digests, ["x", "x", "x", "y", "y"], 0.9, "test")[3:] == [False, False]
    held_out = splitting.hold_out([*digests, "e"], ["x"] * 6, 0.5, "test")
    assert held_out[3] == held_out[4]


def test_splits_that_a_data_set_lacks_are_held_out_once():
    digests, labels = images(50, 2)
    parts, notes = splitting.divide(digests, labels, [], val_fraction=0.2, test_fraction=0.2)
    assert sorted(index for indices in parts.values() for index in indices) == list(range(100))
    assert set(parts) == {"train", "val", "test"} and len(notes) == 2
    assert "There is no test split: about 20% of each class" in notes[0]
    parts, notes = splitting.divide(digests, labels, ["test"], val_fraction=0.2, test_fraction=0.2)
    assert set(parts) == {"train", "val"}
    parts, notes = splitting.divide(digests, labels, ["val"], val_fraction=0.2, test_fraction=0.2)
    assert set(parts) == {"train"} and notes == ["val_fraction has no effect: there is a validation split."]


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_folds_are_equal_parts_of_each_class(count):
    digests, labels = images(43, 7)
    numbers = splitting.folds(digests, labels, count)
    assert set(numbers) == set(range(1, count + 1))
    sizes = Counter(zip(labels, numbers, strict=True))
    assert len(sizes) == 7 * count and set(sizes.values()) <= {43 // count, 43 // count + 1}
    # The order in which images are listed does not matter, only their content.
    backwards = splitting.folds(digests[::-1], labels[::-1], count)
    assert backwards[::-1] == numbers
    # Classes have their larger parts at different places: no part has most of the images.
    totals = Counter(numbers).values()
    assert max(totals) - min(totals) <= 5


def test_an_added_image_moves_at_most_one_across_each_border_of_the_folds():
    digests, labels = images(40, 2)
    everything = dict(zip(digests, splitting.folds(digests, labels, 4), strict=True))
    for removed in range(0, 80, 3):
        fewer = [*digests[:removed], *digests[removed + 1 :]]
        kept = [*labels[:removed], *labels[removed + 1 :]]
        numbers = splitting.folds(fewer, kept, 4)
        moved = [
            label
            for digest, label, number in zip(fewer, kept, numbers, strict=True)
            if everything[digest] != number
        ]
        assert len(moved) <= 4 and labels[removed - 1] not in moved


def test_copies_share_a_fold_and_the_only_image_of_a_class_is_in_none():
    digests, labels = images(20, 2)
    numbers = splitting.folds(
        [*digests, digests[0], digests[3], "one", "one"], [*labels, "x", "x", "y", "y"], 5
    )
    assert numbers[40] == numbers[0] and numbers[41] == numbers[3] and numbers[42:] == [0, 0]
    # Classes that are smaller than the number of parts are spread over the parts.
    digests, labels = images(2, 100)
    sizes = Counter(splitting.folds(digests, labels, 5))
    assert sorted(sizes) == [1, 2, 3, 4, 5] and min(sizes.values()) > 20
    # Never all images of a class.
    assert all(
        len(
            {
                number
                for number, other in zip(splitting.folds(digests, labels, 2), labels, strict=True)
                if other == label
            }
        )
        == 2
        for label in set(labels)
    )


def test_a_fold_is_held_out_of_what_is_not_tested():
    digests, labels = images(50, 2)
    for present in ([], ["test"]):
        held_out = []
        for number in (1, 2, 3):
            parts, notes = splitting.divide(digests, labels, present, 0.0, 0.2, (number, 3))
            assert set(parts) | set(present) == {"train", "val", "test"}
            assert notes[-1].startswith(f"There is no val split: part {number} of 3 of each class, chosen by")
            assert sorted(index for indices in parts.values() for index in indices) == list(range(100))
            held_out += parts["val"]
        assert len(held_out) == len(set(held_out)) == 100 - len(parts.get("test", []))


def test_folds_that_cannot_be_held_out_are_refused_and_small_classes_are_told():
    digests, labels = images(6, 2)
    with pytest.raises(
        InputError, match=r"^fold: there is a validation split, which is used; leave fold out$"
    ):
        splitting.divide(digests, labels, ["val", "test"], 0.0, 0.2, (1, 3))
    with pytest.raises(InputError, match=r"^fold: part \d+ of 40 is empty, .* use fewer parts$"):
        for number in range(1, 41):
            splitting.divide(digests, labels, ["test"], 0.0, 0.2, (number, 40))
    _, notes = splitting.divide([*digests, "a", "b"], [*labels, "rare", "rare"], ["test"], 0.0, 0.2, (1, 3))
    assert notes[-1] == "1 class has fewer than 3 different images, and is missing in some parts."


def test_a_limit_keeps_the_shares_of_the_classes_and_every_class():
    labels = ["many"] * 900 + ["some"] * 90 + ["rare"] * 3
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(labels))]
    kept = splitting.limit(digests, labels, 100, "train_limit")
    assert Counter(labels[index] for index in kept) == {"many": 90, "some": 9, "rare": 1}
    # Mixed, so that the first images stand for all of them.
    assert {labels[index] for index in kept[:50]} >= {"many", "some"}
    # A smaller limit takes a part of a larger one.
    assert set(splitting.limit(digests, labels, 50, "train_limit")) <= set(kept)
    assert sorted(splitting.limit(digests, labels, 0, "train_limit")) == list(range(len(labels)))
    with pytest.raises(InputError, match=r"train_limit: got 2, takes 0 .* one per class \(3\)"):
        splitting.limit(digests, labels, 2, "train_limit")
    assert len(splitting.limit(digests, labels, 3, "train_limit")) == 3
