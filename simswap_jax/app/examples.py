"""The example faces of the page, from providers that are found by name."""

from importlib import import_module
from pathlib import Path

# "package.module:function", called with a folder and whether targets may be more than a single face's crop; each gives
# its source and target files back.
PROVIDERS = ("simswap_jax.contrib.rendered.renderer:draw",)


def draw_examples(folder: Path, photos: bool) -> tuple[list[Path], list[Path]]:
    """Let every provider put example sources and targets into a folder.

    Args:
      folder: is there.
      photos: whether targets may be more than a single face's crop.

    Returns:
      Source and target files.
    """
    sources: list[Path] = []
    targets: list[Path] = []
    for provider in PROVIDERS:
        module, function = provider.split(":")
        theirs = getattr(import_module(module), function)(folder, photos)
        sources += theirs[0]
        targets += theirs[1]
    return sources, targets
