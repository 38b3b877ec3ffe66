"""`python -m tests.snapshots.regenerate`: the errors' sentences anew; `--step` also the step's operations."""

import sys

from tests.snapshots import step, user_errors

if __name__ == "__main__":
    user_errors.FILE.write_text(user_errors.snapshot(), encoding="utf-8")
    if "--step" in sys.argv[1:]:
        step.FILE.write_text(step.as_text({way: step.counted(way) for way in step.WAYS}), encoding="utf-8")
