"""An identity network as stored: a folder of ours (config.json + identity.safetensors) or anybody's weight file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load_file

from simswap_jax.errors import UserError, printable
from simswap_jax.io.atomic import is_file, is_folder, replacing_folder
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, folder_config, layouts, model_folder, registry, torch_weights
from simswap_jax.weights.folder_config import CONFIG

WEIGHTS = "identity.safetensors"


@dataclass(frozen=True)
class Identity:
    """A frozen identity network with its weights.

    Attributes:
      network: how pictures become vectors.
      variables: its Flax variables.
      sha256: of the weight file; names the network in caches and model folders.
      name: of the file or folder, for people.
      ours: trained by this project, so that it may be passed on.
      copy_of: SHA-256 of the network that this is an adversarially robust copy of (`robust_identity.py`); empty for
        others.
    """

    network: IdentityNetwork
    variables: Any
    sha256: str
    name: str
    ours: bool
    copy_of: str = ""


def write(folder: Path, config: IdentityConfig, variables: Any, card: dict[str, Any]) -> None:
    """Write an identity network of ours; an older one in ``folder`` goes when the new one stands.

    Raises:
      UserError: it is not finite, something else stands at that place, or it cannot be written.
    """
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    model_folder.check_finite(flat, f"the identity network for {folder}")
    with replacing_folder(folder, (CONFIG, WEIGHTS)) as fresh:
        files.save(flat, fresh / WEIGHTS)
        described = {"format": 1, "identity": config.to_dict(), "card": card}
        (fresh / CONFIG).write_bytes(folder_config.dump(described))


def read(source: str | Path, purpose: str) -> Identity:
    """Load an identity network.

    Args:
      source: a folder that ``write`` made, a weight file, or the name of a public file of ``configs/weights.yaml``.
      purpose: what it is wanted for; stands in the sentence when it is missing.

    Raises:
      UserError: it is missing, damaged or not an identity network.
    """
    folder = Path(source).expanduser()
    if is_folder(folder):
        return _read_folder(folder)
    path = registry.find(str(source), purpose)
    network, variables = torch_weights.load_identity_network(path)
    return Identity(network, variables, registry.file_sha256(path), path.name, ours=False)


def _read_folder(folder: Path) -> Identity:
    lacking = next((name for name in (CONFIG, WEIGHTS) if not is_file(folder / name)), None)
    if lacking is not None:
        raise UserError(
            f"{folder} is not an identity network: it has no {lacking}; name a folder that "
            "`config.method = 'identity'` wrote, or a weight file.",
            "not-an-identity-folder",
        )
    try:
        config, copy_of = _config(folder / CONFIG)
        variables = model_folder.unflattened(load_file(folder / WEIGHTS), folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the identity network in {folder} is damaged ({printable(error)}); train or copy it again.",
            "identity-folder-damaged",
        ) from error
    model_folder.check_tree(variables, layouts.flax_shapes(layouts.identity(config)), str(folder))
    ours = not copy_of  # a copy stays its network's owner's
    sha256 = registry.file_sha256(folder / WEIGHTS)
    return Identity(IdentityNetwork(config), variables, sha256, folder.name, ours, copy_of)


def _config(path: Path) -> tuple[IdentityConfig, str]:
    """The network's configuration, and the SHA-256 of the network that it is a copy of, if of any.

    Raises:
      ValueError: its description is wrong.
    """
    try:
        described = folder_config.load(path)
        if not isinstance(described, dict):
            raise ValueError("is no object")
        folder_config.check(described, folder_config.IDENTITY_FOLDER)
        config = folder_config.identity(described["identity"])
    except ValueError as error:
        raise ValueError(f"its {CONFIG} {error}") from error
    copy_of = described.get("card", {})
    for name in ("copy_of", "sha256"):
        copy_of = copy_of.get(name, "") if isinstance(copy_of, dict) else ""
    return config, copy_of if isinstance(copy_of, str) else ""
