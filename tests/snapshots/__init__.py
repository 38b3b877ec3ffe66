"""What a refactoring must not change unseen: sentences of errors, operations of the training step."""
