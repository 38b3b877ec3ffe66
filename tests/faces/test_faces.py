"""Geometry of faces: templates, similarity, crop and way back, masks, blending, detection."""

import cv2
import numpy as np
import pytest

from simswap_jax.faces.alignment import TEMPLATES, align, crop, enlarged, inverse, similarity, transform
from simswap_jax.faces.blending import (
    below_brows,
    border_ramp,
    fine_detail,
    match_colour,
    match_tone,
    mouth_area,
    paste,
    paste_gradients,
    place,
    resolve_overlaps,
    soft_mask,
)
from simswap_jax.faces.detection import Face, FaceDetector, iou, non_maximum_suppression
from simswap_jax.weights.model_folder import ALIGNMENTS


def turned(scale, angle, shift):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def ramp(height, width):
    """A picture whose red and green say where a pixel is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


def test_a_similarity_is_recovered_exactly():
    points = np.random.default_rng(0).random((5, 2)) * 500
    wanted = turned(0.37, -1.2, (40.0, -7.0))
    np.testing.assert_allclose(similarity(points, transform(wanted, points)), wanted, atol=1e-9)
    np.testing.assert_allclose(transform(inverse(wanted), transform(wanted, points)), points, atol=1e-9)


def test_a_similarity_is_the_least_squares_one():
    random = np.random.default_rng(1)
    points, wanted = random.random((5, 2)), random.random((5, 2))

    def error(matrix):
        return ((transform(matrix, points) - wanted) ** 2).sum()

    best = similarity(points, wanted)
    a, b = best[0, 0], best[1, 0]
    for da, db, dx, dy in random.standard_normal((50, 4)) * 1e-3:
        near = np.array([[a + da, -b - db, best[0, 2] + dx], [b + db, a + da, best[1, 2] + dy]])
        assert error(near) > error(best)


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_that_are_no_face_get_a_sentence(points):
    with pytest.raises(ValueError, match="no face to align"):
        similarity(points, TEMPLATES["arcface"][0])


def test_there_is_a_template_for_every_alignment_of_photos():
    assert set(TEMPLATES) == set(ALIGNMENTS) - {"rendered"}
    assert {name: len(poses) for name, poses in TEMPLATES.items()}["simswap"] == 5
    np.testing.assert_allclose(TEMPLATES["simswap-frontal"][0, 0] * 112, (39.730, 51.138))
    np.testing.assert_allclose(TEMPLATES["ffhq"][0, 4] * 512, (313.08905, 371.15118))
    np.testing.assert_allclose(TEMPLATES["arcface"][0, 2] * 112, (56.0252, 71.7366))
    with pytest.raises(ValueError, match="cannot be aligned as 'rendered'"):
        align(TEMPLATES["arcface"][0] * 90, "rendered", 64)


@pytest.mark.parametrize("pose", range(5))
def test_the_nearest_of_the_five_poses_is_taken(pose):
    landmarks = transform(turned(300.0, 0.4, (100, 90)), TEMPLATES["simswap"][pose])
    fit = align(landmarks, "simswap", 224)
    assert fit.residual < 1e-9
    np.testing.assert_allclose(fit.landmarks, TEMPLATES["simswap"][pose] * 224, atol=1e-9)
    assert abs(fit.density - 224 / 300) < 1e-9


@pytest.mark.parametrize("size", [20, 64, 300])
def test_crops_show_what_is_there_and_larger_ones_the_same(size):
    photo = ramp(200, 240)
    landmarks = transform(turned(100.0, 0.3, (80, 40)), TEMPLATES["arcface"][0])
    fit = align(landmarks, "arcface", size)
    pixels = np.array([(size // 4, size // 3), (size // 2, size // 2), (2 * size // 3, size // 4)])
    seen = np.array([crop(photo, fit)[y, x, :2] for x, y in pixels], float)
    np.testing.assert_allclose(seen, transform(inverse(fit.matrix), pixels), atol=1.0)
    edge = transform(inverse(enlarged(fit.matrix, 3.0)), np.array([(-0.5, -0.5)]))
    np.testing.assert_allclose(edge, transform(inverse(fit.matrix), np.array([(-0.5, -0.5)])), atol=1e-9)


@pytest.mark.parametrize("template", TEMPLATES)
def test_masks_are_soft_whole_and_zero_at_the_border(template):
    for pose in TEMPLATES[template]:
        mask = soft_mask(pose * 224, 224)
        assert mask.dtype == np.float32
        assert mask.min() == 0.0
        assert mask.max() == 1.0
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
        assert all(mask[round(y), round(x)] > 0.6 for x, y in pose * 224)
        assert max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1)) < 0.12  # no line to be seen


def test_a_ramp_fits_into_the_smallest_crop():
    assert border_ramp(1).tolist() == [[0.0]]
    assert border_ramp(3)[1, 1] == 1.0


def test_pasting_changes_only_what_the_mask_covers():
    photo = ramp(200, 240)
    fit = align(transform(turned(100.0, 0.3, (80, 40)), TEMPLATES["arcface"][0]), "arcface", 64)
    where = place(photo.shape, fit, soft_mask(fit.landmarks, 64))
    after = photo.copy()
    paste(after, np.full((64, 64, 3), 250, np.uint8), fit, where)
    nose = np.round(transform(inverse(fit.matrix), fit.landmarks)[2]).astype(int)
    assert after[nose[1], nose[0]].tolist() == [250, 250, 250]
    changed = np.zeros((200, 240), bool)
    changed[where.window] = where.mask > 0
    assert (after[~changed] == photo[~changed]).all()


@pytest.mark.parametrize("size", [32, 64, 400])
def test_fine_detail_stays_where_a_swap_changes_nothing_and_goes_where_it_does(size):
    photo = np.random.default_rng(0).integers(90, 160, (200, 240, 3)).astype(np.uint8)
    fit = align(transform(turned(100.0, 0.3, (80, 40)), TEMPLATES["arcface"][0]), "arcface", size)
    where, target = place(photo.shape, fit, soft_mask(fit.landmarks, size)), crop(photo, fit)
    after = photo.copy()
    paste(after, target, fit, where, fine_detail(photo, target, target, fit, where))
    np.testing.assert_array_equal(after, photo)  # an unchanged crop leaves the photo as it was
    face = np.full_like(target, 250)
    with_detail, without = photo.copy(), photo.copy()
    paste(with_detail, face, fit, where, fine_detail(photo, target, face, fit, where))
    paste(without, face, fit, where)
    np.testing.assert_array_equal(with_detail, without)


def test_a_face_beyond_the_photos_edge_is_pasted_as_far_as_it_goes():
    photo = np.zeros((50, 50, 3), np.uint8)
    for shift, touched in (((-50.0, 0.0), True), ((400.0, 0.0), False)):
        fit = align(transform(turned(100.0, 0.0, shift), TEMPLATES["arcface"][0]), "arcface", 64)
        after = photo.copy()
        paste(after, np.full((64, 64, 3), 250, np.uint8), fit, place(photo.shape, fit, soft_mask(fit.landmarks, 64)))
        assert after.any() == touched


def test_a_dense_crop_is_averaged_not_skipped():
    fit = align(TEMPLATES["arcface"][0] * 20, "arcface", 400)
    noise = (np.random.default_rng(0).random((400, 400, 1)) > 0.5).repeat(3, axis=2).astype(np.uint8) * 255
    photo = np.zeros((20, 20, 3), np.uint8)
    paste(photo, noise, fit, place(photo.shape, fit, np.ones((400, 400), np.float32)))
    assert photo[5:15, 5:15].std() < 60  # single pixels would give 128


def test_overlapping_faces_share_their_pixels_and_others_keep_theirs():
    shape = (200, 300)
    fits = [
        align(transform(turned(100.0, 0.0, (x, 40.0)), TEMPLATES["arcface"][0]), "arcface", 64) for x in (20, 70, 200)
    ]
    before = [place(shape, fit, soft_mask(fit.landmarks, 64)) for fit in fits]
    after = resolve_overlaps(before)
    total = np.zeros(shape)
    for one in after:
        total[one.window] += one.mask
    assert total.max() <= 1.0 + 1e-6
    assert (after[0].mask < before[0].mask - 0.1).any()
    np.testing.assert_allclose(after[2].mask, before[2].mask, atol=1e-6)


def test_matched_colours_have_the_targets_mean():
    random = np.random.default_rng(0)
    face = (random.random((32, 32, 3)) * 80 + 20).astype(np.uint8)
    target = (random.random((32, 32, 3)) * (100, 70, 90) + (90, 60, 100)).astype(np.uint8)
    mask = soft_mask(TEMPLATES["arcface"][0] * 32, 32)
    matched = match_colour(face, target, mask)
    weight = mask[:, :, None] / mask.sum()
    np.testing.assert_allclose((matched * weight).sum((0, 1)), (target * weight).sum((0, 1)), atol=0.5)
    np.testing.assert_allclose(match_colour(target, target, mask), target, atol=1)


def tones(grey):
    """Pictures in one tone or light, by name: float grey [H, W] in 0 to 1 → uint8 RGB."""
    one = grey[:, :, None]
    made = {
        "grey": one * np.array([255.0, 255, 255]),
        "sepia": 255 * np.concatenate([one**0.8, 0.92 * one, 0.78 * one**1.25], axis=2),
        "duotone": np.array([20.0, 10, 90]) * (1 - one) + np.array([255.0, 220, 80]) * one,
        "blue light": one * np.array([20.0, 60, 250]),
    }
    return {name: np.round(picture).astype(np.uint8) for name, picture in made.items()}


@pytest.mark.parametrize("name", ["grey", "sepia", "duotone", "blue light"])
def test_a_toned_target_keeps_its_tone(name):
    y, x = np.mgrid[:64, :64] / 63.0
    grey, other = 0.15 + 0.7 * (0.5 + 0.5 * np.sin(9 * x) * np.cos(7 * y)), 0.15 + 0.7 * (0.4 + 0.5 * x * y)
    target, wanted = tones(grey)[name], tones(other)[name]
    # What a model draws there: another face in that tone, with colours that do not belong.
    drawn = np.clip(wanted + 20.0 * np.sin(12 * x)[:, :, None] * np.array([1.0, -1, 0.5]), 0, 255).astype(np.uint8)
    mask = soft_mask(TEMPLATES["arcface"][0] * 64, 64)
    after = match_tone(drawn, target, mask)
    off, was = (np.abs(one.astype(int) - wanted).mean() for one in (after, drawn))
    assert off < 0.6 * was
    # Every colour of the result is on the tone's curve: within a few levels of some colour of the target's kind.
    curve = tones(np.linspace(0, 1, 256)[None])[name][0].astype(int)
    assert max(np.abs(curve - colour).max(axis=1).min() for colour in after.reshape(-1, 3)[::7].astype(int)) <= 6
    assert name != "grey" or (after == after[:, :, :1]).all()


def test_a_target_in_colour_leaves_the_result_as_it_is():
    y, x = np.mgrid[:64, :64] / 63.0
    skin = np.stack([190 + 30 * np.sin(9 * x), 140 + 25 * np.sin(9 * x + y), 115 + 25 * np.cos(6 * y)], axis=2)
    lips = np.exp(-30 * ((x - 0.5) ** 2 + (y - 0.75) ** 2))[:, :, None] * np.array([20.0, -50, -20])
    target = (skin + lips).astype(np.uint8)
    drawn = np.ascontiguousarray(target[::-1])
    assert match_tone(drawn, target, soft_mask(TEMPLATES["arcface"][0] * 64, 64)) is drawn


def test_gradients_go_over_and_a_step_of_light_does_not():
    y, x = np.mgrid[:200, :240]
    waves = 60 * np.sin(x / 7) * np.cos(y / 9) + 120
    photo = np.stack([waves, waves * 0.8, 200 - waves * 0.5], axis=2).astype(np.uint8)
    fit = align(transform(turned(100.0, 0.3, (80, 40)), TEMPLATES["arcface"][0]), "arcface", 600)
    where = place(photo.shape, fit, soft_mask(fit.landmarks, 600))
    same = crop(photo, fit)
    for face, most in ((same, 3), (np.clip(same.astype(int) + 30, 0, 255).astype(np.uint8), 8)):
        after = photo.copy()
        paste_gradients(after, face, fit, where)
        assert np.abs(after.astype(int) - photo).max() <= most
    plain = photo.copy()
    paste(plain, face, fit, where)
    assert np.abs(plain.astype(int) - photo).max() > 25
    other = photo.copy()
    paste_gradients(other, 255 - same, fit, where)
    assert np.abs(other.astype(int) - photo).mean() > 1.5  # what differs in more than light is carried over


def test_a_face_at_the_photos_corner_is_blended_by_gradients_as_far_as_it_goes():
    photo = ramp(60, 60)
    for shift in ((-50.0, -40.0), (5.0, 5.0), (400.0, 0.0)):
        fit = align(transform(turned(100.0, 0.0, shift), TEMPLATES["arcface"][0]), "arcface", 64)
        after = photo.copy()
        where = place(photo.shape, fit, soft_mask(fit.landmarks, 64))
        paste_gradients(after, np.full((64, 64, 3), 90, np.uint8), fit, where)
        assert (after == photo).all() == (shift[0] > 300)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_face_turned_to_a_side_is_narrower_there(side):
    frontal = TEMPLATES["simswap-frontal"][0] * 224
    turned_away = frontal + np.array([(0, 0), (0, 0), (side * 14.0, 0), (0, 0), (0, 0)])
    rows = [soft_mask(points, 224)[round(points[2, 1])] for points in (frontal, turned_away)]
    middle = round(frontal[2, 0])
    left, right = (rows[1][:middle].sum() / rows[0][:middle].sum(), rows[1][middle:].sum() / rows[0][middle:].sum())
    there, other = (left, right) if side < 0 else (right, left)
    assert there < 0.9
    assert abs(other - 1.0) < 0.02


@pytest.mark.parametrize("template", TEMPLATES)
def test_mouth_and_forehead_lie_where_they_are(template):
    for pose in TEMPLATES[template]:
        points = pose * 224
        mouth, lower = mouth_area(points, 224), below_brows(points, 224)
        at = [tuple(np.round(point[::-1]).astype(int)) for point in points]
        centre = tuple(np.round(points[3:].mean(axis=0)[::-1]).astype(int))
        assert min(mouth[at[3]], mouth[at[4]], mouth[centre]) > 0.4
        assert max(mouth[at[0]], mouth[at[1]], mouth[at[2]]) == 0.0
        assert min(lower[one] for one in at) == 1.0
        eyes, length = points[:2].mean(axis=0), np.hypot(*(points[3:].mean(axis=0) - points[:2].mean(axis=0)))
        forehead = np.round(eyes - (0.0, 0.7 * length)).astype(int)
        assert forehead[1] < 0 or lower[forehead[1], forehead[0]] < 0.05


def face(left, top, side, score):
    return Face((left, top, side, side), np.zeros((5, 2)), score)


def test_a_face_found_twice_is_kept_once():
    seen = [face(0, 0, 10, 0.7), face(1, 1, 10, 0.9), face(50, 0, 10, 0.8)]
    assert [one.score for one in non_maximum_suppression(seen)] == [0.9, 0.8]
    assert iou(seen[0], seen[2]) == 0.0
    assert iou(seen[0], seen[0]) == 1.0


def test_a_detector_that_is_none_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no face detector"):
        FaceDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="is not YuNet"):
        FaceDetector(tmp_path / "text.onnx")


def test_yunet_finds_faces_of_any_size_in_their_places(outside):
    detector = FaceDetector(outside("face_detection_yunet.onnx"))
    photo = cv2.cvtColor(cv2.imread(str(outside("photos") / "specific1.png")), cv2.COLOR_BGR2RGB)
    (found,) = detector.detect(photo)
    (large,) = detector.detect(cv2.resize(photo, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC))
    np.testing.assert_allclose((large.landmarks + 0.5) / 9 - 0.5, found.landmarks, atol=3.0)
    assert found.landmarks[0, 0] < found.landmarks[1, 0]  # the eye on the picture's left comes first
    for shape in ((1, 1, 3), (2, 300, 3), (64, 64, 3)):
        assert detector.detect(np.zeros(shape, np.uint8)) == []
