"""Models of the Hugging Face Hub, fetched by ``user/name``, and put there; the extra 'hub' brings huggingface_hub."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.io.atomic import is_folder
from simswap_jax.io.progress import to_terminal
from simswap_jax.weights.registry import offline

# Of a model folder; nothing else is fetched or put there, not even another .safetensors beside them.
FILES = ["config.json", "generator.safetensors", "identity.safetensors", "README.md"]
NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*?)(?:@(?P<revision>[\w./-]+))?")


def is_repository(name: str) -> bool:
    """Whether a name may be a repository's, ``user/name`` or ``user/name@revision``, and no path of this machine."""
    return NAME.fullmatch(name) is not None and not is_folder(Path(name.partition("/")[0]))


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder that holds a repository's model, fetched if it is not in the Hub's cache.

    Whoever reads the folder compares its files with the SHA-256 in its config.json.

    Args:
      name: ``user/name``, or ``user/name@revision``.
      revision: branch, tag or commit; None: the name's, else the main branch.

    Raises:
      UserError: the extra is missing, there is no such repository, or it cannot be reached.
    """
    found = NAME.fullmatch(name)
    assert found is not None
    repository, revision = found["repository"], revision or found["revision"]
    hub = _package(f"the model {name} of the Hub")
    if not offline():
        to_terminal(f"fetching {name} from the Hub, unless it is in its cache")
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=FILES,
            local_files_only=offline(),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except hub.errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {revision} on the Hub; check it.", "hub-revision") from error
    except hub.errors.GatedRepoError as error:
        raise UserError(
            f"{repository} is open to those who accepted its terms; accept them on its page, then `hf auth login`.",
            "hub-terms-not-accepted",
        ) from error
    except hub.errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{repository} is neither a folder here nor a repository of the Hub that you may see; check the name, or "
            "`hf auth login`.",
            "hub-repository",
        ) from error
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HTTPError, OSError, ValueError) as error:
        why = "SIMSWAP_JAX_OFFLINE forbids fetching it" if offline() else first_line(error)
        raise UserError(
            f"{name} is no folder here, and could not be fetched from the Hub ({why}); name a model folder.",
            "hub-unreachable",
        ) from error
    return Path(folder)


def upload(folder: Path, repository: str, private: bool = False) -> str:
    """Put a model folder's files into a repository, which is made where there is none; returns the commit's address.

    Raises:
      UserError: the extra is missing, the Hub cannot be reached, or it refuses.
    """
    hub = _package("putting a model on the Hub")
    client = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        client.create_repo(repository, private=private, exist_ok=True)
        done = client.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=FILES, commit_message="Upload a simswap_jax model"
        )
    except (hub.errors.HTTPError, hub.errors.LocalTokenNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"{repository} could not be written to ({first_line(error)}); look at the connection, and `hf auth login` "
            "with a token that may write.",
            "hub-refused",
        ) from error
    return str(done.commit_url)


def _package(purpose: str) -> Any:
    """huggingface_hub with its errors."""
    if find_spec("huggingface_hub") is None:
        raise missing_extra("huggingface_hub", "hub", purpose)
    import huggingface_hub
    import huggingface_hub.errors

    return huggingface_hub
