"""Where this user's settings and fetched files lie; None where there is no home to put them into."""

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path


def config_folder() -> Path | None:
    """The folder of settings: ``SIMSWAP_JAX_CONFIG``, else below ``XDG_CONFIG_HOME`` or the home."""
    named = os.environ.get("SIMSWAP_JAX_CONFIG")
    return Path(os.path.expanduser(named)) if named else _below_home("XDG_CONFIG_HOME", ".config")


def cache_folder() -> Path | None:
    """The folder of what can be fetched again: below ``XDG_CACHE_HOME`` or the home."""
    return _below_home("XDG_CACHE_HOME", ".cache")


def compilation_cache() -> Path | None:
    """The folder of compiled programs of machines like this one: a home may be shared, their instructions are not."""
    folder = cache_folder()
    return None if folder is None else folder / "compiled" / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))
    return f"{platform.machine()} {platform.processor()}"


def temporary_folder() -> Path | None:
    """A folder of this user's for what can be kept nowhere else, the same in every run; None where there is none."""
    user = os.getuid() if hasattr(os, "getuid") else "files"  # elsewhere each user has folders of their own
    with contextlib.suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"simswap_jax-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if user == "files" or folder.stat().st_uid == user:  # not one that somebody else has laid there
            return folder
    return None


def _below_home(variable: str, usual: str) -> Path | None:
    named = os.environ.get(variable)
    if named and Path(named).is_absolute():  # the rule of XDG: another is no folder
        return Path(named) / "simswap_jax"
    with contextlib.suppress(RuntimeError):  # a user without a home, as in many containers
        return Path.home() / usual / "simswap_jax"
    return None
