"""The public data sets of ``configs/datasets``: how they lie on disk, their terms, and what to prepare them with."""

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.preparation.settings import Settings


@dataclass(frozen=True)
class Dataset:
    """One public data set.

    Attributes:
      name: of its file in ``configs/datasets``.
      title, content: what it is called and holds.
      origin: where a person gets it.
      terms: what its publishers ask for.
      layout: how it lies on disk.
      before: what to do first; empty where nothing.
      photos: folder of the photos below the one that was downloaded; "" for that one.
      names: list of names below it; "" where folders say whose photos they are.
      settings: those that differ from ``Settings()``.
      command: the command that prepares it.
    """

    name: str
    title: str
    content: str
    origin: str
    terms: str
    layout: str
    photos: str
    names: str
    settings: Mapping[str, Any]
    command: str
    before: str = ""

    def places(self, downloaded: Path) -> tuple[Path, Path | None]:
        """The folder of the photos and the list of names."""
        return downloaded / self.photos, downloaded / self.names if self.names else None

    def about(self) -> str:
        """A few lines for a terminal."""
        first = f"\nfirst:   {self.before}" if self.before else ""
        where = f"from:    {self.origin}\nterms:   {self.terms}\nlayout:  {self.layout}"
        return f"{self.title}: {self.content}\n{where}{first}"


@functools.cache
def datasets() -> dict[str, Dataset]:
    """Name → data set.

    Raises:
      ValueError: a file of ``configs/datasets`` has a field that is not known, or lacks one.
    """
    import yaml

    folder = importlib.resources.files("simswap_jax.configs") / "datasets"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            name = file.name.removesuffix(".yaml")
            described = yaml.safe_load(file.read_text(encoding="utf-8"))
            try:
                found[name] = Dataset(name, **{key: _one_line(value) for key, value in described.items()})
            except TypeError as error:
                raise ValueError(f"configs/datasets/{file.name}: {error}") from error
            unknown = set(found[name].settings) - {field.name for field in fields(Settings)}
            if unknown:
                raise ValueError(f"configs/datasets/{file.name}: there is no setting {', '.join(sorted(unknown))}")
    return found


def dataset(name: str) -> Dataset:
    """A data set by name.

    Raises:
      UserError: there is none of that name.
    """
    if name not in datasets():
        raise UserError(f"the data set '{name}' is not described here; there are {', '.join(datasets())}.")
    return datasets()[name]


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value
