"""The evaluation itself is checked: each measure on pictures and numbers whose answer is known."""

import cv2
import numpy as np
import pytest

from simswap_jax.contrib.rendered import dataset as rendered_people
from simswap_jax.contrib.rendered import identity_judge, protocol
from simswap_jax.evaluation import agreement, baselines
from simswap_jax.evaluation.judges.features import IdentityFeatures
from simswap_jax.evaluation.metrics import distribution, expression, identity, intervals, regions, summary, temporal
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.io import html_report
from tests.support.small_model import faces

FRONTAL = TEMPLATES["simswap-frontal"][0]


@pytest.fixture(scope="module")
def drawn():
    """Eight rendered people with six pictures each: pictures, whose, and their attributes."""
    who = np.repeat(rendered_people.sample_people(5, 8), 6, axis=0)
    attributes = rendered_people.sample_attributes(6, len(who))
    return rendered_people.render(who, attributes, 64), np.repeat(np.arange(8), 6), attributes


# Identity


def test_untouched_pictures_give_the_recognisers_own_verification(drawn):
    """True accepts of real pairs, through the evaluation's functions, are those of the judge worked out by hand."""
    pictures, person, _ = drawn
    vectors = identity_judge.pretrained().embed(list(pictures))
    genuine, impostors = identity.pair_cosines(vectors, person)
    cosines = vectors @ vectors.T
    same = person[:, None] == person
    upper = np.triu(np.ones_like(same), 1).astype(bool)
    wanted = np.sort(cosines[~same & upper])[::-1]
    assert (len(genuine), len(impostors)) == (8 * 15, len(wanted))
    threshold = identity.threshold_at(impostors, 0.01)
    assert np.isclose((wanted >= threshold).mean(), 0.01, atol=1 / len(wanted))
    by_hand = (cosines[same & upper] >= threshold).mean()
    assert identity.roc(genuine, impostors, np.array([0.01])) == pytest.approx(by_hand)
    assert by_hand > 0.5
    # Best accuracy over all thresholds: the judge tells these people apart.
    accuracy = max(((genuine >= t).mean() + (impostors < t).mean()) / 2 for t in np.linspace(-0.2, 0.9, 100))
    assert accuracy > 0.9


def test_shuffled_pairs_fall_to_chance(drawn):
    pictures, person, _ = drawn
    vectors = identity_judge.pretrained().embed(list(pictures))
    everybody = identity.gallery(vectors, person, 8)
    assert identity.retrieval(vectors, everybody, person, vectors).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(np.tile(person, 20))
    many = np.tile(vectors, (20, 1))
    assert identity.retrieval(many, everybody, shuffled).mean() == pytest.approx(1 / 8, abs=0.05)
    assert identity.nearest_picture(many, vectors, person, shuffled).mean() == pytest.approx(1 / 8, abs=0.05)


def test_the_nearest_picture_may_be_barred():
    vectors = np.eye(4)
    person = np.array([0, 1, 1, 2])
    result = np.array([[0.0, 1.0, 0.5, 0.1]])
    assert identity.nearest_picture(result, vectors, person, np.array([1])).all()
    assert identity.nearest_picture(result, vectors, person, np.array([1]), np.array([1])).all()  # her other picture
    assert not identity.nearest_picture(result, vectors, np.array([0, 1, 2, 2]), np.array([1]), np.array([1])).any()
    assert identity.nearest_picture(result, vectors, np.array([0, 1, 2, 2]), np.array([1]), np.array([-1])).all()


def test_a_false_accept_rate_needs_enough_pairs():
    with pytest.raises(ValueError, match="needs 1000 pairs"):
        identity.threshold_at(np.zeros(999), 0.001)
    with pytest.raises(ValueError, match="between 0 and 1"):
        identity.threshold_at(np.zeros(999), 0.0)


def test_a_decoy_is_a_third_person():
    found = summary.decoys(np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2]))
    np.testing.assert_array_equal(found, [2, 3, 1, 1])
    np.testing.assert_array_equal(summary.decoys(np.array([0, 1]), np.array([1, 0])), [-1, -1])


# Pose


def test_pose_of_a_picture_against_its_mirror_has_its_sign_and_size(drawn):
    """Yaw and roll turn over, pitch stays; the error of the mirror is twice the part that turns over."""
    pictures, _, attributes = drawn
    pose, truth = protocol.RenderedPose(), rendered_people.pose(attributes)
    angles = pose.angles(list(pictures))
    mirrored = pose.angles([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    flip = np.array([-1.0, 1.0, -1.0])
    assert np.abs(mirrored - angles * flip).mean() < 4
    sideways = np.hypot(truth[:, 0], truth[:, 2])
    error = np.linalg.norm(mirrored - angles, axis=1)
    turned = sideways > np.median(sideways)
    assert np.abs(error - 2 * sideways)[turned].mean() < 0.35 * (2 * sideways)[turned].mean()
    assert np.corrcoef(error, sideways)[0, 1] > 0.8


# Sets


def test_fid_of_a_set_with_itself_is_zero_and_grows_with_blur(drawn):
    pictures, _, _ = drawn
    judge = IdentityFeatures(identity_judge.pretrained())
    real = judge.features(list(pictures))
    blurred = [judge.features([cv2.GaussianBlur(p, (0, 0), sigma) for p in pictures]) for sigma in (1.0, 2.0, 4.0)]
    assert distribution.fid(real, real) == pytest.approx(0, abs=1e-6)
    fids = [distribution.fid(features, real) for features in blurred]
    kids = [distribution.kid(features, real) for features in blurred]
    assert 0.01 < fids[0] < fids[1] < fids[2]
    assert kids[0] < kids[1] < kids[2]
    assert distribution.kid(real[::2], real[1::2]) < 0.25 * kids[2]  # unbiased: it may be below 0


def test_fid_of_gaussians_is_its_formula():
    """Against the matrix root, for more rows than columns and for fewer."""
    random = np.random.default_rng(0)
    for n, m in ((60, 50), (6, 5)):
        a, b = random.normal(0, 1, (n, 8)), random.normal(0.5, 2, (m, 8)) @ random.normal(size=(8, 8))
        cov_a, cov_b = np.cov(a.T), np.cov(b.T)
        roots = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
        mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
        wanted = mean + np.trace(cov_a) + np.trace(cov_b) - 2 * roots
        assert distribution.fid(a, b) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        distribution.fid(a[:1], b)


def test_kid_is_its_sums_written_out():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(4, 3)), random.normal(size=(5, 3))

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    between = np.mean([k(x, y) for x in a for y in b])
    assert distribution.kid(a, b) == pytest.approx(sum(within) - 2 * between)


# Inside and outside the face


def test_laplacian_energy_falls_with_blur_and_looks_at_the_face_only():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    masks = regions.face_masks(None, 2, 64)
    soft = np.stack([baselines.softened(picture) for picture in noise])
    assert (regions.laplacian_energy(soft, masks) < 0.2 * regions.laplacian_energy(noise, masks)).all()
    outside = np.where(masks[..., None] > 0, np.uint8(128), noise)
    outside[masks > 0] = 128
    inner = cv2.erode(masks[0], np.ones((3, 3)))[None].repeat(2, 0)
    assert regions.laplacian_energy(outside, inner).max() < 0.05 * regions.laplacian_energy(noise, inner).min()


def seen(pictures):
    masks = regions.face_masks(None, len(pictures), pictures.shape[1])
    return {"surroundings": regions.surroundings(pictures, masks), "light": regions.light(pictures, masks)}


def test_leakage_is_one_for_the_source_none_for_the_target_and_none_for_a_grey_veil(drawn):
    pictures, person, _ = drawn
    sources, targets = pictures, np.roll(pictures, 6, axis=0)
    decoy = summary.decoys(person, np.roll(person, 6))
    half = ((sources.astype(int) + targets) // 2).astype(np.uint8)
    veiled = (targets.astype(int) // 2 + 64).astype(np.uint8)
    names = {"leak_hair", "leak_background", "leak_light"}

    def leaks(results):
        return summary.leakage(seen(results), seen(targets), seen(sources), decoy, person)

    assert {name: value.mean for name, value in leaks(sources).items()} == pytest.approx(dict.fromkeys(names, 1.0))
    assert {name: value.mean for name, value in leaks(targets).items()} == pytest.approx(dict.fromkeys(names, 0.0))
    halfway, veil = leaks(half), leaks(veiled)
    for name in ("leak_hair", "leak_background"):
        assert halfway[name].mean == pytest.approx(0.5, abs=0.03)
        assert abs(veil[name].mean) < 0.25  # towards everybody alike
        assert veil[name].low < veil[name].mean < veil[name].high


def test_leakage_says_where(drawn):
    pictures, person, _ = drawn
    sources, targets = pictures, np.roll(pictures, 6, axis=0)
    hair = targets.copy()
    hair[:, :32] = sources[:, :32]
    found = summary.leakage(
        seen(hair), seen(targets), seen(sources), summary.decoys(person, np.roll(person, 6)), person
    )
    assert found["leak_hair"].mean == pytest.approx(1.0)
    assert found["leak_background"].mean == pytest.approx(0.0)


def test_light_has_the_direction_it_is_drawn_with():
    ramp = np.linspace(60, 180, 64)
    right = np.broadcast_to(ramp[None, :, None], (64, 64, 3)).astype(np.uint8)
    pictures = np.stack([right, right[:, ::-1], right.transpose(1, 0, 2)])
    slopes = regions.light(pictures, regions.face_masks(None, 3, 64))
    np.testing.assert_allclose(slopes, [[1, 0], [-1, 0], [0, 1]], atol=0.1)
    brighter = np.clip(pictures.astype(int) * 1.3, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(regions.light(brighter, regions.face_masks(None, 3, 64)), slopes, atol=0.02)


# Expression


def made_faces(people=6, each=80):
    """Landmarks = shape of the person + pose + expression + place, size and roll; and the expression alone."""
    random = np.random.default_rng(3)
    names = [f"p{i}" for i in range(people) for _ in range(each)]
    shapes = np.repeat(random.normal(0, 0.02, (people, 5, 2)), each, axis=0)
    angles = random.uniform(-25, 25, (len(names), 3))
    turned = np.array([[0, 0], [0, 0], [1.0, 0.2], [0.3, 0], [0.3, 0]]) * angles[:, :1, None] / 300
    smile = random.uniform(-1, 1, len(names))
    moved = np.array([[0, 0], [0, 0], [0, 0], [-1.0, -0.5], [1.0, -0.5]]) * 0.05 * smile[:, None, None]
    points = FRONTAL + shapes + turned + moved
    spin = np.exp(1j * random.uniform(-0.3, 0.3, len(names)))[:, None] * random.uniform(0.8, 1.2, (len(names), 1))
    z = (points @ np.array([1, 1j])) * spin + random.uniform(-0.1, 0.1, (len(names), 1))
    return np.stack([z.real, z.imag], axis=-1), names, angles, smile


def test_expression_error_sees_the_smile_and_not_person_pose_or_place():
    points, names, angles, smile = made_faces()
    shapes = expression.fit(points, names, angles)
    left = expression.expressions(shapes, points, names, angles)
    other = np.roll(np.arange(len(names)), 97)  # pairs of different people in different poses
    error = expression.expression_error(shapes, left, left[other])
    apart = np.abs(smile - smile[other])
    assert np.corrcoef(error, apart)[0, 1] > 0.97
    raw = np.stack([expression.onto(p, shapes.mean) for p in points])
    blind = expression.expression_error(shapes, raw, raw[other])
    assert np.corrcoef(blind, apart)[0, 1] < 0.6
    assert not expression.expression_error(shapes, left, left).any()


def test_expression_is_unknown_where_no_face_or_person_is():
    points, names, angles, _ = made_faces()
    shapes = expression.fit(points, names, angles)
    points[1] = np.nan
    left = expression.expressions(shapes, points[:3], ["p0", "p0", "stranger"], angles[:3])
    np.testing.assert_array_equal(np.isfinite(left).all(axis=(1, 2)), [True, False, False])
    with pytest.raises(ValueError, match="no landmarks"):
        expression.fit(np.full((3, 5, 2), np.nan), ["a"] * 3, None)


# Controls


def test_the_source_is_pasted_onto_the_targets_landmarks():
    source, target = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64, 3), 50, np.uint8)
    eye = np.round(FRONTAL[0] * 64 - 0.5).astype(int)
    source[eye[1] - 1 : eye[1] + 2, eye[0] - 1 : eye[0] + 2] = 0
    moved = FRONTAL + np.array([6, 4]) / 64
    result = baselines.pasted(source, target, FRONTAL, moved)
    assert result[eye[1] + 4, eye[0] + 6].max() < 20
    assert (result[0] == 50).all()
    unknown = np.full((5, 2), np.nan)
    assert baselines.pasted(source, target, unknown, unknown)[eye[1], eye[0]].max() < 20


def test_the_mild_changes_are_mild_and_no_more_than_named():
    picture = cv2.GaussianBlur(faces(1, 112)[0], (0, 0), 2)
    moved = baselines.shifted(picture)
    np.testing.assert_array_equal(moved[:, 10:], picture[:, 8:-2])
    turned = baselines.other_hue(picture).astype(float)
    grey = np.full((4, 4, 3), 90, np.uint8)
    np.testing.assert_array_equal(baselines.other_hue(grey), grey)
    assert 1 < np.abs(turned - picture).mean() < 15


# Clips


def moving(count=10, step=2):
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 160, 3)).astype(np.uint8), (0, 0), 2.5)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([wide[:, step * i : step * i + 96] for i in range(count)])


def test_a_steady_clip_does_not_flicker_and_a_trembling_one_does():
    target = moving()
    masks = regions.face_masks(None, len(target), 96)
    random = np.random.default_rng(1)
    levels = random.integers(-25, 26, (len(target), 1, 1, 1))
    trembling = np.clip(target.astype(int) + levels, 0, 255).astype(np.uint8)
    steady = 255 - target  # another picture that moves alike
    calm, of_steady, of_trembling = (temporal.warp_error(c, target, masks).mean() for c in (target, steady, trembling))
    assert of_steady == pytest.approx(calm, abs=0.01)
    assert calm < 0.02
    assert of_trembling > calm + 0.03
    still = temporal.warp_error(np.repeat(target[:1], len(target), axis=0), target, masks).mean()
    assert still > calm + 0.03  # it does not move as asked


def test_jitter_leaves_steady_motion_alone():
    steady = np.arange(6)[:, None] * np.array([1.0, 2.0, 0.0])
    np.testing.assert_allclose(temporal.jitter(steady), 0, atol=1e-12)
    shaken = steady.copy()
    shaken[3] += 1
    assert temporal.jitter(shaken).max() == pytest.approx(2 * np.sqrt(3))
    vectors = np.array([[1.0, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(temporal.identity_jitter(vectors), [0, 1])
    np.testing.assert_array_equal(temporal.blocks(9), [0] * 8 + [1])


# Intervals


def test_a_ratio_is_of_sums_and_nan_is_left_out():
    got = intervals.ratio(np.array([1.0, 3.0, np.nan]), np.array([2.0, 2.0, 5.0]))
    assert got.mean == 1.0
    assert got.low < 1 < got.high
    assert got.times(100).text(0) == f"100 [{got.low * 100:.0f}, {got.high * 100:.0f}]"
    assert intervals.estimate(np.array([np.nan, 2.0])).mean == 2.0


def test_a_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    got = intervals.jackknife(lambda kept: float(values[kept].mean()), np.arange(50))
    error = values.std(ddof=1) / np.sqrt(50)
    np.testing.assert_allclose([got.mean - got.low, got.high - got.mean], 1.96 * error)
    with pytest.raises(ValueError, match="two groups"):
        intervals.jackknife(lambda kept: 0.0, np.zeros(3))


def test_rank_correlation():
    assert intervals.rank_correlation([1, 2, 3], [10, 20, 500]) == pytest.approx(1)
    assert intervals.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert intervals.rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(
        np.corrcoef([0.5, 0.5, 2], [0, 1, 2])[0, 1]
    )
    assert np.isnan(intervals.rank_correlation([1, 1], [1, 2]))
    worse = agreement.within_pairs(np.array([[0, 0], [1, 2], [2, 1.0]]), np.array([[0, 0], [1, 1], [2, 2.0]]), [0, 1])
    assert worse.mean == pytest.approx(0.75)


# The page


def test_named_points_are_drawn_and_escaped():
    points = {"wFM_2": (0.9, 0.05), "o<FM": (0.91, 0.051), "nFM": (0.99, 0.2), "lost": (float("nan"), 1.0)}
    page = html_report.html_report("t", "s", curves=[html_report.Scatter("trade", points, "identity", "error")])
    assert page.count("<circle") == 3
    assert "o&lt;FM" in page
    assert "nan" not in page
    places = [line.split('cx="')[1].split('"')[0] for line in page.split("<circle")[1:] if 'cx="' in f"<circle{line}"]
    assert float(places[0]) < float(places[1]) < float(places[2])


def test_an_interval_stands_below_its_number():
    page = html_report.html_report(
        "t", "s", [html_report.Table("c", ["", "x"], [["a", "0.5 [0.4, 0.6]"], ["b [c", "1"]])]
    )
    assert "0.5<br><small>[0.4, 0.6]</small>" in page
    assert "<td>b [c</td>" in page
