"""Which marks say of a result that it is synthetic, and the sentence about them."""

from collections.abc import Sequence
from dataclasses import dataclass

from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import EXTRA, Credentials
from simswap_jax.provenance.watermark import SMALLEST

MARKS = LABEL, METADATA, MANIFEST, WATERMARK = (
    "a visible label",
    "XMP metadata",
    "a C2PA manifest",
    "an invisible watermark",
)


@dataclass(frozen=True)
class MarkOptions:
    """Which marks a result gets: all, unless they are switched off.

    Attributes:
      label: the visible label.
      xmp: the XMP packet that machines read.
      c2pa: the signed C2PA manifest; left out anyway where the extra ``provenance`` is missing.
      watermark: the invisible watermark in the pixels; pictures under 112 pixels have no room for it.
      credentials: what signs the manifest; this machine's own certificate if None.
    """

    label: bool = True
    xmp: bool = True
    c2pa: bool = True
    watermark: bool = True
    credentials: Credentials | None = None

    def dropped(self) -> list[str]:
        """The marks that were switched off, in words."""
        wanted = {
            "visible label": self.label,
            "metadata": self.xmp,
            "C2PA manifest": self.c2pa,
            "invisible watermark": self.watermark,
        }
        return [name for name, on in wanted.items() if not on]


ALL_MARKS = MarkOptions()
NO_MARKS = MarkOptions(label=False, xmp=False, c2pa=False, watermark=False)


def marks_sentence(options: MarkOptions, carried: Sequence[tuple[str, ...]]) -> str:
    """What the results say of themselves; ``carried`` are the ``MARKS`` of each."""
    kept = [name for name in MARKS if any(name in marks for marks in carried)]
    dropped = options.dropped()
    without = f"without {_listed(dropped)}, as asked; say yourself that the pictures are synthetic."
    if not dropped:
        sentence = f"Marked as synthetic by {_listed(kept)}."
    elif kept:
        sentence = f"Marked as synthetic by {_listed(kept)} only, {without}"
    else:
        sentence = f"Not marked as synthetic: {without}"
    if options.c2pa and not c2pa.available():
        sentence += f" There is no C2PA manifest: it needs more packages; {EXTRA}."
    small = sum(WATERMARK not in marks for marks in carried)
    if small and options.watermark:
        sentence += f" No room for an invisible watermark in {small} of {len(carried)} (under {SMALLEST} pixels)."
    return sentence


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
