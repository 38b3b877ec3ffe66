"""An identity network as stored: a folder of ours (config.json + identity.safetensors) or anybody's weight file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load_file

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_folder
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, model_folder, registry, torch_weights

CONFIG, WEIGHTS = "config.json", "identity.safetensors"


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
      UserError: something else stands at that place, or it cannot be written.
    """
    with replacing_folder(folder, CONFIG) as fresh:
        files.save(traverse_util.flatten_dict(jax.device_get(variables), sep="/"), fresh / WEIGHTS)
        described = {"format": 1, "identity": config.to_dict(), "card": card}
        (fresh / CONFIG).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def read(source: str | Path, purpose: str) -> Identity:
    """Load an identity network.

    Args:
      source: a folder that ``write`` made, a weight file, or the name of a public file of ``configs/weights.yaml``.
      purpose: what it is wanted for; stands in the sentence when it is missing.

    Raises:
      UserError: it is missing, damaged or not an identity network.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _read_folder(folder)
    path = registry.find(str(source), purpose)
    network, variables = torch_weights.load_identity_network(path)
    return Identity(network, variables, registry.file_sha256(path), path.name, ours=False)


def _read_folder(folder: Path) -> Identity:
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        network = IdentityNetwork(IdentityConfig.from_dict(described["identity"]))
        variables = traverse_util.unflatten_dict(load_file(folder / WEIGHTS), sep="/")
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not an identity network: it has no {Path(error.filename or CONFIG).name}; name a folder that "
            "`config.method = 'identity'` wrote, or a weight file.",
            "not-an-identity-folder",
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the identity network in {folder} is damaged ({error}); train or copy it again.", "identity-folder-damaged"
        ) from error
    model_folder.check_tree(variables, jax.eval_shape(network.init, jax.random.key(0)), str(folder))
    copy_of = str(described.get("card", {}).get("copy_of", {}).get("sha256", ""))
    ours = not copy_of  # a copy stays its network's owner's
    return Identity(network, variables, registry.file_sha256(folder / WEIGHTS), folder.name, ours, copy_of)
