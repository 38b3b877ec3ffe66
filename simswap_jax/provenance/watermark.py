"""An invisible watermark in the pixels, which outlives the loss of all metadata.

It is spread-spectrum: a fixed pattern of ±1, one for each frequency of a band, is added to the picture, more where the
picture is busy (eyes forgive more there), and found by correlation.

Frequencies are counted in half waves across the *whole* picture, so resizing keeps them; JPEG spares them because they
are low next to the picture's own sharpness. Cropping and turning move them: the watermark is then lost. It carries no
message but "this program drew it"; the pattern is public, so it can be taken out on purpose.

How sure a finding is: under a pattern that is independent of the picture, the statistic z = Σ sₖ xₖ / √(Σ xₖ²) is a
weighted sum of independent signs, so P(z > t) ≤ exp(−t²/2) whatever the picture (Hoeffding). With four bands tried,
``THRESHOLD`` 6 bounds false findings by 4·exp(−18) = 6.1e-8 a picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from simswap_jax.io.images import LUMA

THRESHOLD = 6.0  # of z; false findings ≤ 6.1e-8 a picture
SMALLEST = 112  # pixels of the shorter side from which the watermark is put in
_KEY = 20_260_802  # the seed of the pattern; another key is another watermark
SURE = 40.0  # z that is aimed for when embedding, so that much can be lost
FRAME_SURE = 70.0  # and in a frame of a video: what is new in each frame is what video codecs save on
_STRONGEST = 41.5  # dB PSNR that embedding does not go under (rounding to whole levels costs 0.1 more)
_SPREAD = 1.5  # pixels of the grid that count as "around" a place
_FLAT = 2.0  # levels of contrast that every place is taken to have
_NEIGHBOURS = 9  # coefficients, along each axis, that a coefficient's size is compared with
_ROWS = 64  # that are changed at once: what stays in the processor's cache is three times as quick
# The change of red, green and blue that moves brightness by one and the three together the least.
_COLOUR = (LUMA / np.sum(LUMA**2)).tolist()


@dataclass(frozen=True)
class Band:
    """Frequencies that carry the watermark in pictures of some size.

    Attributes:
      side: pixels of the square grid that the picture is shrunk to.
      low: lowest and
      high: highest frequency, in half waves across the picture.
      smallest: pixels of the shorter side from which this band is used; at half of it the band is still there.
    """

    side: int
    low: int
    high: int
    smallest: int


BANDS = (Band(256, 48, 192, 448), Band(128, 24, 96, 224), Band(96, 20, 72, 160), Band(64, 16, 48, SMALLEST))


def has_room(shape: tuple[int, ...]) -> bool:
    """Whether a picture of this shape, [H, W, …], has room for the watermark."""
    return min(shape[:2]) >= SMALLEST


def embed(picture: np.ndarray, sure: float = SURE) -> np.ndarray:
    """A copy of a picture that carries the watermark.

    Args:
      picture: uint8 RGB [H, W, 3].
      sure: z that is aimed for; less where it would take more than 41.5 dB.

    Returns:
      uint8 RGB [H, W, 3], at least 41 dB PSNR from the input. Pictures whose shorter side is under ``SMALLEST``
      pixels have no room for a watermark that lasts, and come back as they are.
    """
    height, width = picture.shape[:2]
    band = next((band for band in BANDS if min(height, width) >= band.smallest), None)
    if band is None:
        return picture.copy()
    small = _shrink(picture, band.side)
    _, contrast = _local(small)
    pattern = np.sqrt(contrast) * cv2.idct(_signs(band))
    # The three colours' mean square is that of the brightness times |_COLOUR|² / 3.
    amplitude = float(np.sqrt(np.mean(pattern**2) * np.mean(np.square(_COLOUR))))
    strongest = 255 * 10 ** (-_STRONGEST / 20) / amplitude
    strength = strongest
    for _ in range(2):  # z is nearly proportional to the strength; once more for what "nearly" leaves
        strength = min(strongest, strength * sure / max(_z(small + strength * pattern, band), 1.0))
    change = cv2.resize(strength * pattern, (width, height), interpolation=cv2.INTER_CUBIC)
    marked = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        colours = cv2.merge([change[rows] * colour for colour in _COLOUR])
        # Rounds, and stops at 0 and 255.
        cv2.add(np.ascontiguousarray(picture[rows]), colours, dst=marked[rows], dtype=cv2.CV_8U)
    return marked


def detect(picture: np.ndarray) -> float:
    """How surely the watermark is in a picture: the largest z over the bands; above ``THRESHOLD`` it is.

    Args:
      picture: uint8 RGB [H, W, 3].
    """
    if min(picture.shape[:2]) < 8:
        return 0.0
    return max(_z(_shrink(picture, band.side), band) for band in BANDS)


def detect_frames(pictures: Iterable[np.ndarray]) -> float:
    """The same over the frames of a clip together: one watermark in all of them, so what they say adds up.

    Args:
      pictures: uint8 RGB [H, W, 3] each, all of one size. An empty clip gives 0.

    Returns:
      z of the correlations summed over the frames, with the same bound on false findings.
    """
    sums: dict[Band, np.ndarray] = {band: np.zeros((band.side, band.side), np.float32) for band in BANDS}
    for picture in pictures:
        for band, values in sums.items():
            values += _whitened(_shrink(picture, band.side), band)
    return max(_correlation(values, band) for band, values in sums.items())


def _shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """Brightness on a square grid, float32 [side, side], 0 to 255."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    while min(grey.shape) >= 4 * side:  # halving bytes is quick, and rounding them there is lost in the averages
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_AREA if min(picture.shape[:2]) >= side else cv2.INTER_CUBIC
    return cv2.resize(grey.astype(np.float32), (side, side), interpolation=way)


def _local(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What stands out from its surroundings, and how much things stand out there."""
    rest = small - cv2.GaussianBlur(small, (0, 0), _SPREAD)
    return rest, np.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), _SPREAD) + _FLAT**2)


@cache
def _signs(band: Band) -> np.ndarray:
    """The pattern: ±1 on the band's frequencies and 0 elsewhere, float32 [side, side]."""
    index = np.arange(band.side)
    frequency = np.hypot(index[:, None], index[None, :])
    signs = np.random.default_rng([_KEY, band.side]).choice(np.array([-1, 1], np.float32), size=frequency.shape)
    return np.where((frequency >= band.low) & (frequency <= band.high), signs, np.float32(0))


@cache
def _inside(band: Band) -> tuple[np.ndarray, np.ndarray]:
    """1 on the band's frequencies and 0 elsewhere, and the share of each place's neighbours that is in the band."""
    inside = np.abs(_signs(band))
    return inside, cv2.blur(inside, (_NEIGHBOURS, _NEIGHBOURS))


def _whitened(small: np.ndarray, band: Band) -> np.ndarray:
    """The band's coefficients, divided by contrast in space and by the size of neighbouring ones; [side, side]."""
    rest, contrast = _local(small)
    inside, share = _inside(band)
    values = cv2.dct(rest / contrast) * inside
    power = cv2.blur(values * values, (_NEIGHBOURS, _NEIGHBOURS)) / np.maximum(share, 1e-6)
    return values / np.sqrt(power + 1e-6)


def _correlation(values: np.ndarray, band: Band) -> float:
    """The statistic z = Σ s x / √(Σ x²)."""
    return float(np.sum(_signs(band) * values) / (np.sqrt(np.sum(values * values)) + 1e-6))


def _z(small: np.ndarray, band: Band) -> float:
    return _correlation(_whitened(small, band), band)
