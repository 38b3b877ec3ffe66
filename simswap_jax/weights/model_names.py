"""Which folder a model's name stands for: a folder, or a model that ships with the package."""

from pathlib import Path

from simswap_jax.io.atomic import is_file

PACKAGE = Path(__file__).parents[1]
CONFIG = "config.json"


def find_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
      name: a folder, or the name of a model that ships (`shipped`); a model folder of that name goes before it.

    Returns:
      the folder; where nothing is called so, the name as a path, which whoever reads it refuses.
    """
    path = Path(name).expanduser()
    return path if is_file(path / CONFIG) else shipped().get(str(name).removeprefix("pretrained/"), path)


def shipped() -> dict[str, Path]:
    """The models of this installation, by name: those of the package and those of its contributions."""
    folders = {path.parent.name: path.parent for path in PACKAGE.glob(f"pretrained/*/{CONFIG}")}
    more = {path.parents[2].name: path.parent for path in PACKAGE.glob(f"contrib/*/pretrained/generator/{CONFIG}")}
    return {**folders, **more}
