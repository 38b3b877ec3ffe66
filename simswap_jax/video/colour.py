"""What the colours of a video mean: HDR and wide gamuts as SDR pictures that the networks know, and changes back.

A change is carried back as the difference that it makes: what was not changed keeps its values, brighter than white or
outside BT.709 as they may be.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import cv2
import numpy as np

from simswap_jax.errors import UserError

# FFmpeg's numbers, which are those of ISO/IEC 23091-2.
_RGB, BT709, BT601, UNKNOWN, BT2020 = 0, 1, 5, 2, 9
PQ, HLG = 16, 18
MATRICES = {BT709: BT709, 4: 4, 5: BT601, 6: BT601, 7: 7, BT2020: BT2020, 10: BT2020}  # as swscale calls them
_UNREAD_MATRICES = {8, 11, 12, 13, 14, 15, 16, 17}  # YCgCo, ICtCp, IPT and others
_UNREAD_TRANSFERS = {8, 9, 10, 17}  # linear, logarithmic, cinema XYZ
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_WIDE = {BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), 11: _P3, 12: _P3}  # x and y of red, green, blue
_NARROW = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = (0.3127, 0.3290)
WHITE, PEAK = 203.0, 1000.0  # cd/m² of SDR's white in HDR, and of an HLG display (ITU-R BT.2408, BT.2100)
_GAMMA, _SYSTEM_GAMMA = 2.4, 1.2  # of an SDR display (BT.1886), and of an HLG display of 1000 cd/m²
_KEPT, _REPLACED = 8, 40  # levels of change up to which all, and from which nothing of a pixel's own excess stays
_ROWS = 64  # at once: what stays in the processor's cache is quicker


@dataclass(frozen=True)
class Colours:
    """How colours are written in a video.

    Attributes:
      range, matrix, primaries, transfer: FFmpeg's numbers.
      depth: bits of a value.
    """

    range: int = 0
    matrix: int = UNKNOWN
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN
    depth: int = 8

    @classmethod
    def of(cls, frame: Any) -> "Colours":
        """Those of a decoded frame."""
        depth = max(component.bits for component in frame.format.components)
        return cls(
            int(frame.color_range), int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), depth
        )

    @property
    def is_hdr(self) -> bool:
        """Whether values go far beyond white."""
        return self.transfer in (PQ, HLG)

    @property
    def is_plain(self) -> bool:
        """Whether an SDR picture has these values as they are."""
        return not self.is_hdr and self.primaries not in _WIDE

    @property
    def name(self) -> str:
        """What people call them."""
        return {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}.get(self.transfer, "SDR" if self.is_plain else "wide-gamut")

    def as_yuv(self, matrix: int) -> "Colours":
        """The same of what is written: RGB becomes YUV of a matrix, in the range that everybody plays."""
        return replace(self, matrix=matrix, range=1) if self.matrix == _RGB else self

    @cached_property
    def sdr(self) -> "SdrMapping":
        """What makes SDR pictures of them."""
        return SdrMapping(self.primaries if self.primaries in _WIDE else BT2020, self.transfer)

    def check(self, path: Any, dolby_vision: bool) -> None:
        """A UserError where no picture can be made of them."""
        unread = self.matrix in _UNREAD_MATRICES or self.transfer in _UNREAD_TRANSFERS
        if unread or (dolby_vision and self.matrix == UNKNOWN):
            what = "Dolby Vision's own colours" if dolby_vision else f"matrix {self.matrix}, transfer {self.transfer}"
            raise UserError(
                f"the colours of {path} are written in a way that is not read here ({what}); "
                "convert it to HDR10, HLG or BT.709 with another program first.",
                "video-colours-unknown",
            )


@dataclass(frozen=True)
class SdrMapping:
    """Pictures of BT.709 out of other colours, for displays and networks, and their changes carried back.

    SDR's white is 203 cd/m²; brighter values are cut off in the picture, but stay where little is changed.

    Attributes:
      primaries: FFmpeg's number, one of those wider than BT.709.
      transfer: FFmpeg's number; PQ, HLG, or any of SDR.
    """

    primaries: int
    transfer: int

    def to_sdr(self, values: np.ndarray) -> np.ndarray:
        """The picture, uint8 RGB [H, W, 3], of the video's own values, uint16 RGB [H, W, 3], full scale 65535."""
        picture = np.empty(values.shape, np.uint8)
        to_narrow = _between(self.primaries, narrow=True)
        for rows in _blocks(values):
            light = np.take(_light(self.transfer), values[rows])
            if self.transfer == HLG:
                light *= _luminance(light, self.primaries) ** (_SYSTEM_GAMMA - 1) * (PEAK / WHITE)
            picture[rows] = np.take(_sdr_codes(), _root(cv2.transform(light, to_narrow)))
        return picture

    def with_changes(self, values: np.ndarray, sdr: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """The video's own values once ``sdr`` became ``picture``.

        Args:
          values: uint16 RGB [H, W, 3].
          sdr: what `to_sdr` makes of them.
          picture: uint8 RGB [H, W, 3].

        Returns:
          uint16 RGB [H, W, 3]: equal to ``values`` where nothing was changed.
        """
        result = values.copy()
        for rows in _blocks(values):
            difference = cv2.absdiff(picture[rows], sdr[rows]).max(axis=2, keepdims=True)
            if not difference.any():
                continue
            share = np.clip((_REPLACED - difference.astype(np.float32)) / (_REPLACED - _KEPT), 0, 1)
            excess = values[rows] - self._codes(sdr[rows])
            drawn = np.clip(self._codes(picture[rows]) + share * excess, 0, 65535)
            result[rows] = np.where(difference > 0, (drawn + 0.5).astype(np.uint16), values[rows])
        return result

    def _codes(self, picture: np.ndarray) -> np.ndarray:
        """SDR's colours as values of the video, float32 [h, W, 3], 0 to 65535."""
        light = cv2.transform(cv2.LUT(picture, _sdr_light()), _between(self.primaries, narrow=False))
        if self.transfer == HLG:
            light = np.maximum(light, 0) * (WHITE / PEAK)
            light *= (_luminance(light, self.primaries) + 1e-9) ** (1 / _SYSTEM_GAMMA - 1)
        return np.take(_codes_of_light(self.transfer), _root(light))


def _blocks(values: np.ndarray) -> list[slice]:
    return [slice(top, top + _ROWS) for top in range(0, len(values), _ROWS)]


def _root(light: np.ndarray) -> np.ndarray:
    """Indices for tables of light from 0 to 1, finer where it is dark."""
    return (np.sqrt(np.clip(light, 0, 1)) * 65535 + 0.5).astype(np.uint16)


def _luminance(light: np.ndarray, primaries: int) -> np.ndarray:
    """[h, W, 1] of linear light [h, W, 3]."""
    return (light @ _to_xyz(_WIDE[primaries])[1].astype(np.float32))[..., None]


@cache
def _light(transfer: int) -> np.ndarray:
    """Light of each value from 0 to 65535, float32: 1 is SDR's white; of HLG that of the scene, 1 the brightest."""
    value = np.arange(65536) / 65535
    if transfer == PQ:
        root = value ** (1 / _PQ_M2)
        light = (np.maximum(root - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1) * (10_000 / WHITE)
    elif transfer == HLG:
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    else:
        light = value**_GAMMA
    return light.astype(np.float32)


@cache
def _codes_of_light(transfer: int) -> np.ndarray:
    """The values, float32 0 to 65535, of light whose square root is an index of 65535; inverse of `_light`."""
    light = (np.arange(65536) / 65535) ** 2
    if transfer == PQ:
        power = (light * WHITE / 10_000) ** _PQ_M1
        value = ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2
    elif transfer == HLG:
        high = _HLG_A * np.log(np.maximum(12 * light - _HLG_B, 1e-9)) + _HLG_C
        value = np.where(light <= 1 / 12, np.sqrt(3 * light), high)
    else:
        value = light ** (1 / _GAMMA)
    return (65535 * value).astype(np.float32)


@cache
def _sdr_light() -> np.ndarray:
    return ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)


@cache
def _sdr_codes() -> np.ndarray:
    return np.rint(255 * (np.arange(65536) / 65535) ** (2 / _GAMMA)).astype(np.uint8)


@cache
def _between(primaries: int, narrow: bool) -> np.ndarray:
    """Linear RGB of wide primaries → that of BT.709, or the other way round: float32 [3, 3]."""
    matrix = np.linalg.inv(_to_xyz(_NARROW)) @ _to_xyz(_WIDE[primaries])
    return (matrix if narrow else np.linalg.inv(matrix)).astype(np.float32)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Linear RGB → CIE XYZ, [3, 3], with white at D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*primaries, _D65)]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128  # SMPTE ST 2084
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
