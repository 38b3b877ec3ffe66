"""Which swaps are evaluated: `protocol` says what a protocol is, the other modules are protocols."""
