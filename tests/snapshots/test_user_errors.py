"""The wording of every user's error, asserted here and nowhere else; each has a code of its own."""

import difflib
import re
from collections import defaultdict

import pytest

from tests.snapshots import user_errors
from tests.snapshots.user_errors import PLACEHOLDER, snapshot

ONE_MISTAKE = {"broken-picture"}  # whose sentences differ in the reason only
LIKE = 0.45  # share of words that sentences of one code have in common, at least


def test_sentences_are_those_of_the_snapshot():
    """Reworded, added or gone? Read the difference, then `python -m tests.snapshots.regenerate`."""
    before, now = user_errors.FILE.read_text(encoding="utf-8"), snapshot()
    different = difflib.unified_diff(before.splitlines(), now.splitlines(), "snapshot", "package", lineterm="", n=1)
    assert before == now, "`python -m tests.snapshots.regenerate` if this is meant:\n" + "\n".join(different)


def test_every_user_error_has_a_code():
    without = [f"{sentence.where}: {sentence.text}" for sentence in user_errors.sentences() if not sentence.code]
    assert without == [], f"{len(without)} without a code:\n" + "\n".join(without)


def test_codes_are_kebab_case():
    codes = {sentence.code for sentence in user_errors.sentences()} - {"", PLACEHOLDER}
    assert [code for code in codes if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []


def test_no_code_names_two_mistakes():
    by_code = defaultdict(list)
    for sentence in user_errors.sentences():
        if sentence.code not in ("", PLACEHOLDER, user_errors.EXTRA, *ONE_MISTAKE):
            by_code[sentence.code].append(sentence)
    mixed = [
        f"{code}: {first.where} and {other.where}: {first.text} | {other.text}"
        for code, (first, *others) in by_code.items()
        for other in others
        if alike(first.text, other.text) < LIKE
    ]
    assert mixed == [], "\n".join(mixed)


def alike(first, second):
    """0 … 1: how much of two sentences is the same, word by word."""
    if PLACEHOLDER in (first, second):
        return 1.0  # handed on from where it is written
    return difflib.SequenceMatcher(None, first.split(), second.split()).ratio()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("{…} does not exist; name a folder.", "{…} does not exist; name a file.", True),
        ("{…} does not exist; name a folder.", "the disk is full.", False),
    ],
)
def test_alike_tells_a_variant_from_another_mistake(first, second, same):
    assert (alike(first, second) >= LIKE) == same
