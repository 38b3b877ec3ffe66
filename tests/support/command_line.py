"""Command lines of tests: the words of one, in place of those that it would have had."""

from collections.abc import Sequence


def with_usual(words: Sequence[str], **usual: str) -> list[str]:
    """The words after ``--name value`` of each usual argument that they do not give themselves."""
    before = [word for name, value in usual.items() if f"--{name}" not in words for word in (f"--{name}", value)]
    return [*before, *words]
