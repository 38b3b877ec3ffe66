"""The file of a workdir of many trainings that says what it was made for; another request is refused there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import write_json
from simswap_jax.training.experiment import flat


def open_state(path: Path, wanted: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What the file holds, ``request`` and whatever was put beside it; where there is none it is started.

    Args:
      path: the file, in the workdir.
      wanted: all that a resumed request must agree in, as JSON can hold it.
      what: the workdir holds, for the sentence.

    Raises:
      UserError: it holds another request, or is damaged.
    """
    if not path.exists():
        started = {"request": dict(wanted)}
        write_json(path, started)
        return started
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        former = flat(state["request"])
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); use another --workdir.", "workdir-state-damaged") from error
    now = flat(wanted)
    for name in sorted({*former, *now}):
        if former.get(name) != now.get(name):
            raise UserError(
                f"{path.parent} holds another {what}: {name} was {former.get(name)!r} and is now {now.get(name)!r}; "
                "use another --workdir, or the old value to resume.",
                "workdir-of-another-request",
            )
    return state
