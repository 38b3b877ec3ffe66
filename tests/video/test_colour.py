"""HDR and wide gamuts as SDR pictures and back: the standards' own numbers, and nothing changed that was not drawn."""

import numpy as np
import pytest

from simswap_jax.video.colour import BT2020, HLG, PQ, Colours, SdrMapping

MAPPINGS = [SdrMapping(BT2020, PQ), SdrMapping(BT2020, HLG), SdrMapping(BT2020, 14), SdrMapping(12, 1)]


def drawn(seed=0, shape=(80, 30, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def values_of(mapping, picture):
    """The video's values of an SDR picture."""
    black = np.zeros_like(picture)
    return mapping.with_changes(np.zeros(picture.shape, np.uint16), black, picture)


@pytest.mark.parametrize(("transfer", "code"), [(PQ, 0.5806), (HLG, 0.75)])
def test_white_is_at_203_candela(transfer, code):
    """ITU-R BT.2408, table 1: diffuse white is 58 % of PQ and 75 % of HLG."""
    white = np.full((1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(values_of(SdrMapping(BT2020, transfer), white) / 65535, code, atol=0.001)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_an_sdr_picture_comes_back_as_it_was(mapping):
    picture = drawn()
    off = np.abs(mapping.to_sdr(values_of(mapping, picture)).astype(int) - picture)
    assert off.max() <= 4  # beside bright colours the darkest levels lie nearer than 16 bits tell apart
    assert off.mean() < 0.01


def test_the_gamut_is_bt2020s():
    """ITU-R BT.2087: BT.709's red is (0.6274, 0.0691, 0.0164) of BT.2020's light."""
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    light = (values_of(SdrMapping(BT2020, 14), red) / 65535) ** 2.4
    np.testing.assert_allclose(light[0, 0], (0.6274, 0.0691, 0.0164), atol=0.001)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_what_is_not_changed_keeps_its_values(mapping):
    values = np.random.default_rng(1).integers(0, 65536, (70, 40, 3)).astype(np.uint16)
    seen = mapping.to_sdr(values)
    picture = seen.copy()
    picture[20:40, 10:20] = 128
    result = mapping.with_changes(values, seen, picture)
    same = (picture == seen).all(axis=2)
    np.testing.assert_array_equal(result[same], values[same])
    assert np.abs(mapping.to_sdr(result).astype(int) - picture).max() <= 2
    np.testing.assert_array_equal(mapping.with_changes(values, seen, seen), values)


def test_highlights_stay_brighter_than_white_under_a_watermark_and_go_under_a_face():
    mapping = SdrMapping(BT2020, PQ)
    values = np.full((4, 4, 3), 50_000, np.uint16)  # 1,150 cd/m²
    seen = mapping.to_sdr(values)
    assert seen.min() == 255
    np.testing.assert_allclose(mapping.with_changes(values, seen, seen - 3), values, rtol=0.02)
    face = mapping.with_changes(values, seen, np.full_like(seen, 200))
    np.testing.assert_array_equal(mapping.to_sdr(face), 200)


def test_what_is_plain_is_left_alone():
    assert Colours(primaries=1, transfer=1).is_plain
    assert Colours(primaries=6, transfer=6, depth=10).is_plain
    assert not Colours(primaries=1, transfer=HLG).is_plain
    assert not Colours(primaries=12, transfer=13).is_plain
