"""How property tests run: the same examples every time, few, nothing kept on disk."""

from hypothesis import settings

few = settings(derandomize=True, max_examples=40, deadline=None, database=None)
very_few = settings(few, max_examples=12)
