"""What files a checkpoint is made of, so that one that was cut short or damaged is known before it is read."""

import json
from pathlib import Path

from simswap_jax.io.hashing import file_sha256

LIST = "files.json"
DATES = "_CHECKPOINT_METADATA"  # Orbax writes into it once more after all else


def seal(folder: Path) -> None:
    """Write the list of a checkpoint's files, with sizes and SHA-256, into its folder."""
    listed = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (LIST, DATES)
    }
    (folder / LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def is_sealed(folder: Path) -> bool:
    """Whether the folder has a list; those of older workdirs have none."""
    return (folder / LIST).is_file()


def flaw(folder: Path) -> str | None:
    """What differs from the list, in a few words; None where nothing does, or where there is no list."""
    if not is_sealed(folder):
        return None
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        for name, told in listed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != told["bytes"]:
                return f"{name} has {path.stat().st_size} bytes in place of {told['bytes']}"
            if file_sha256(path) != told["sha256"]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{LIST} cannot be read: {type(error).__name__}"
    return None
