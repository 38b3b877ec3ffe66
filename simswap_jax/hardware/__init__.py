"""Compile the step for TPUs and GPUs that are not here; published peaks."""
