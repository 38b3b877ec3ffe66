"""A tilted photo gives an upright crop; where it cannot be told which way up the face is, none."""

import numpy as np
import pytest

from simswap_jax.preparation.crops import Rejected, aligned_face
from simswap_jax.preparation.sources import Settings
from tests.support.tilted import BROW, Upright, photo_of

KEEPS = Settings(size=64, least_sharpness=0.0, least_score=0.7)  # drawn faces are smooth; lying ones unsure


@pytest.mark.parametrize("closely", [True, False])
@pytest.mark.parametrize("tilt", [0, 120, -90, 180])
def test_a_tilted_face_is_cut_out_upright(tilt, closely):
    photo, _ = photo_of(tilt)
    face = aligned_face(Upright(), photo, KEEPS, closely)
    assert face.picture.shape == (64, 64, 3)
    rows, columns = np.nonzero(np.abs(face.picture.astype(int) - BROW).max(axis=2) < 20)
    assert len(rows) > 10
    assert rows.max() < 32  # above the middle
    assert abs(columns.mean() - 31.5) < 4
    assert abs(face.landmarks[0, 1] - face.landmarks[1, 1]) < 3  # the eyes lie level


@pytest.mark.parametrize("closely", [True, False])
def test_a_face_of_which_the_way_up_is_unclear_is_left_out(closely):
    photo, _ = photo_of(120)
    with pytest.raises(Rejected, match="which way up") as caught:
        aligned_face(Upright(unsure=True), photo, KEEPS, closely)
    assert caught.value.reason == "doubtful face"
