"""Which folder a model's name stands for: a folder, a model that ships with the package, or one of the Hub."""

from importlib.util import find_spec
from pathlib import Path

from simswap_jax.io.atomic import is_file
from simswap_jax.weights import hub

PACKAGE = Path(__file__).parents[1]
CONFIG = "config.json"


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model.

    Args:
      name: a folder, or the name of a model that ships (`shipped`); else a repository of the Hub, ``user/name`` or
        ``user/name@revision``. A model folder of that name goes before all.
      revision: of the repository: branch, tag or commit.

    Returns:
      the folder; where nothing is called so, the name as a path, which whoever reads it refuses.

    Raises:
      UserError: as `hub.fetch`.
    """
    path = Path(name).expanduser()
    if is_file(path / CONFIG):
        return path
    if ships := shipped().get(str(name).removeprefix("pretrained/")):
        return ships
    if hub.is_repository(str(name)) and (revision or find_spec("huggingface_hub")):
        return hub.fetch(str(name), revision)
    return path


def shipped() -> dict[str, Path]:
    """The models of this installation, by name: those of the package and those of its contributions."""
    folders = {path.parent.name: path.parent for path in PACKAGE.glob(f"pretrained/*/{CONFIG}")}
    more = {path.parents[2].name: path.parent for path in PACKAGE.glob(f"contrib/*/pretrained/generator/{CONFIG}")}
    return {**folders, **more}
