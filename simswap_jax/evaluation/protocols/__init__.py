"""Which swaps are evaluated."""
