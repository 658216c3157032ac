"""The built-in photographs: reproducible, anatomically sensible, and graded by lesions alone."""

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import ndimage

from augscale.demo import anatomy, render
from augscale.demo.camera import CAMERAS, expose
from augscale.demo.draws import Draws
from augscale.demo.patients import synthetic_records
from augscale.demo.pose import Pose
from augscale.demo.render import camera_of, landmarks_of, lesions_of
from augscale.demo.stamps import Blobs, Strokes, draw_blobs, draw_strokes
from augscale.errors import DataError

SEED = 0


@pytest.fixture(scope="module")
def collection():
    """Records, grades, and photographs at 48 px of 100 patients."""
    records = synthetic_records(100, SEED)
    photographs = np.stack([render(record.image_id, SEED, 48) for record in records])
    return records, np.array([int(record.label) for record in records]), photographs


def _auc(scores, positive):
    ranks = np.argsort(np.argsort(scores))
    count = positive.sum()
    return (ranks[positive].sum() - count * (count - 1) / 2) / (count * (len(scores) - count))


def test_the_same_name_seed_and_size_give_the_same_bits_in_any_order():
    names = ["synthetic/p0003/left/0", "synthetic/p0003/right/0", "synthetic/p0001/left/1"]
    forwards = [render(name, 5, 64) for name in names]
    backwards = [render(name, 5, 64) for name in reversed(names)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({hashlib.sha256(image.tobytes()).hexdigest() for image in forwards}) == len(names)
    assert not np.array_equal(forwards[0], render(names[0], 6, 64))


def test_rendering_does_not_touch_the_global_random_state():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render("synthetic/p0000/left/0", SEED, 32)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_records_of_a_smaller_collection_are_the_first_of_a_larger_one():
    small, large = synthetic_records(5, 3), synthetic_records(9, 3)
    assert large[: len(small)] == small


def test_every_patient_has_both_eyes_and_some_eyes_two_photographs():
    records = synthetic_records(200, SEED)
    per_eye = Counter((record.patient_id, record.eye) for record in records)
    assert set(per_eye) == {(f"p{patient:04d}", eye) for patient in range(200) for eye in ("left", "right")}
    assert set(per_eye.values()) == {1, 2}
    assert len({record.image_id for record in records}) == len(records)
    for record in records:
        assert record.image_id.startswith(f"synthetic/{record.patient_id}/{record.eye}/")


def test_grades_are_shared_by_photographs_of_an_eye_and_differ_by_one_at_most_between_eyes():
    grades = defaultdict(set)
    for record in synthetic_records(300, SEED):
        grades[record.patient_id, record.eye].add(int(record.label))
    assert all(len(values) == 1 for values in grades.values())
    differences = [abs(min(grades[f"p{p:04d}", "left"]) - min(grades[f"p{p:04d}", "right"])) for p in range(300)]
    assert set(differences) == {0, 1}


def test_every_grade_has_a_share_of_at_least_seven_percent_and_grade_0_is_the_most_frequent():
    shares = Counter(record.label for record in synthetic_records(500, SEED))
    total = sum(shares.values())
    assert set(shares) == set("01234")
    assert min(shares.values()) / total > 0.07
    assert shares.most_common(1)[0][0] == "0"
    assert 0.3 < shares["0"] / total < 0.5


@pytest.mark.parametrize(
    "image_id",
    [
        "",
        "aptos2019/0001.jpg",
        "synthetic/p12/left/0",
        "synthetic/p00012/left/0",
        "synthetic/p0012/both/0",
        "synthetic/p0012/left/",
        "synthetic/p0012/left/-1",
        "synthetic/p0012/left/00",
        "synthetic/p0012/left/0\n",
    ],
)
def test_a_name_that_is_no_synthetic_photograph_is_refused_in_one_line(image_id):
    for function in (
        lambda: render(image_id, 0, 64),
        lambda: lesions_of(image_id, 0),
        lambda: camera_of(image_id, 0),
    ):
        with pytest.raises(DataError, match=r"expected e\.g\.") as caught:
            function()
        assert "\n" not in str(caught.value)


def test_a_size_or_a_number_of_patients_that_makes_no_sense_is_refused():
    with pytest.raises(DataError, match="size is 8 pixels; expected at least 16"):
        render("synthetic/p0000/left/0", 0, 8)
    with pytest.raises(DataError, match="number of patients is 0; expected at least 1"):
        synthetic_records(0, 0)


def test_sizes_from_32_to_512_show_the_same_photograph():
    name = "synthetic/p0004/right/0"
    reference = render(name, SEED, 64).astype(float)
    for size in (32, 33, 100, 129, 256, 512):
        image = render(name, SEED, size)
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
        zoom = (64 / size, 64 / size, 1)
        smooth = ndimage.gaussian_filter(image.astype(float), (0.4 * size / 64, 0.4 * size / 64, 0))
        resized = ndimage.zoom(smooth, zoom, order=1, grid_mode=True, mode="nearest")
        assert np.corrcoef(resized.ravel(), reference.ravel())[0, 1] > 0.98


def test_the_disc_lies_nasally_and_is_the_brightest_part(collection):
    records, _, _ = collection
    brighter = []
    for record in records[:50]:
        place = landmarks_of(record.image_id, SEED)
        nasal_is_right = record.eye == "right"
        assert (place.disc[0] > place.fovea[0]) == nasal_is_right
        image = render(record.image_id, SEED, 96).astype(float)
        middle = np.array(place.disc) * 96 - 0.5
        distance = np.hypot(*(np.mgrid[:96, :96][::-1] - middle[:, None, None]))
        inside, around = image[:, :, 1][distance < 4], image[:, :, 1][(distance > 11) & (distance < 16)]
        if min(*place.disc) > 0.12 and max(*place.disc) < 0.88:
            brighter.append(inside.mean() - around[around > 15].mean())
    assert len(brighter) > 30
    assert np.mean(np.array(brighter) > 10) > 0.9


def test_the_fovea_is_darker_than_what_surrounds_it_and_15_degrees_from_the_disc():
    darker, separations = [], []
    for record in synthetic_records(60, SEED):
        name = record.image_id
        place, camera = landmarks_of(name, SEED), camera_of(name, SEED)
        offset = np.array(place.disc) - place.fovea
        separations.append(np.hypot(*offset) / camera.crop * camera.field_deg)
        if record.label != "0" or np.hypot(*(np.array(place.fovea) - 0.5)) > 0.3:
            continue  # covered by lesions, or in the dark at the edge of the field
        image = render(name, SEED, 96).astype(float)[:, :, 1]
        distance = np.hypot(*(np.mgrid[:96, :96][::-1] - (np.array(place.fovea) * 96 - 0.5)[:, None, None]))
        darker.append(image[(distance > 9) & (distance < 12)].mean() - image[distance < 2].mean())
    assert len(darker) > 20
    assert np.mean(np.array(darker) > 2) > 0.85
    assert 14.5 < np.mean(separations) < 16.5


def test_the_two_eyes_of_a_patient_share_their_color():
    means = {}
    for patient in range(40):
        for eye in ("left", "right"):
            image = render(f"synthetic/p{patient:04d}/{eye}/0", SEED, 32).astype(float)
            means[patient, eye] = image[image.sum(axis=2) > 45].mean(axis=0)
    same = [np.abs(means[p, "left"] - means[p, "right"]).mean() for p in range(40)]
    other = [np.abs(means[p, "left"] - means[(p + 1) % 40, "right"]).mean() for p in range(40)]
    assert np.mean(same) < 0.85 * np.mean(other)


def test_lesions_rise_with_the_grade(collection):
    records, grades, _ = collection
    found = [lesions_of(record.image_id, SEED) for record in records]
    areas, counts = (
        np.array([lesions.area for lesions in found]),
        np.array([lesions.count for lesions in found]),
    )
    assert np.all(areas[grades == 0] == 0)
    assert np.all(areas[grades > 0] > 0)
    mean_areas = [areas[grades == grade].mean() for grade in range(5)]
    assert np.all(np.diff(mean_areas) > 0)
    assert mean_areas[2] > 3 * mean_areas[1]
    assert [counts[grades == grade].mean() for grade in (0, 1, 2, 3)] == sorted(
        counts[grades == grade].mean() for grade in (0, 1, 2, 3)
    )


def test_only_grade_4_has_new_vessels_or_preretinal_blood_and_grade_1_has_aneurysms_only(collection):
    records, grades, _ = collection
    for record, grade in zip(records, grades, strict=True):
        lesions = lesions_of(record.image_id, SEED)
        assert (len(lesions.new_vessels) > 0) == (grade == 4)
        if grade != 4:
            assert len(lesions.preretinal) == 0
        if grade == 1:
            assert len(lesions.exudates) == len(lesions.cotton_wool) == 0
            assert lesions.dark.radius.max() < 0.3


def test_lesions_can_be_seen_at_96_pixels(monkeypatch):
    records = [r for r in synthetic_records(60, SEED) if r.label in "34"][:8]
    shown = [render(record.image_id, SEED, 96).astype(float) for record in records]
    grow_lesions = anatomy.grow_lesions
    monkeypatch.setattr(anatomy, "grow_lesions", lambda draws, grade, *place: grow_lesions(draws, 0, *place))
    for record, with_lesions in zip(records, shown, strict=True):
        without = render(record.image_id, SEED, 96).astype(float)
        change = np.abs(with_lesions - without)[:, :, 1]
        assert (change > 8).sum() > 30
        assert (change > 8).mean() < 0.2


def test_color_and_brightness_say_almost_nothing_about_the_grade(collection):
    records, grades, photographs = collection
    inside = photographs.sum(axis=3) > 45
    means = np.array([image[mask].mean(axis=0) for image, mask in zip(photographs, inside, strict=True)])
    for channel in means.T:
        assert abs(np.corrcoef(channel, grades)[0, 1]) < 0.15
    # A histogram classifier, trained on every second patient and tested on the others.
    chosen = (grades == 0) | (grades >= 2)
    histograms = np.array(
        [
            np.histogramdd(image[mask], bins=(4, 4, 4), range=[(0, 256)] * 3)[0].ravel() / mask.sum()
            for image, mask in zip(photographs, inside, strict=True)
        ]
    )
    features, sick = np.sqrt(histograms[chosen]), grades[chosen] >= 2
    even = np.array([int(record.patient_id[1:]) % 2 == 0 for record in records])[chosen]
    areas = []
    for train in (even, ~even):
        centered = features - features[train].mean(axis=0)
        target = sick[train] - sick[train].mean()
        gram = centered[train].T @ centered[train] + 0.5 * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, centered[train].T @ target)
        areas.append(_auc(centered[~train] @ weights, sick[~train]))
    assert 0.35 < np.mean(areas) < 0.65


def test_camera_and_framing_are_independent_of_the_grade():
    records = synthetic_records(400, SEED)
    table = np.zeros((len(CAMERAS), 2))
    for record in records:
        table[CAMERAS.index(camera_of(record.image_id, SEED)), int(record.label) >= 2] += 1
    shares = table / table.sum(axis=0)
    assert np.abs(shares[:, 0] - shares[:, 1]).max() < 0.1
    assert np.all(table.sum(axis=1) > 30)


def test_cameras_differ_in_field_and_color():
    reflectance = np.ones((96, 96, 3))
    seen, colors = {}, {}
    for camera in CAMERAS:
        images = [expose(Draws(SEED, "test", i), camera, reflectance, 0.0) for i in range(12)]
        seen[camera.name] = np.mean([(image.sum(axis=2) > 30).mean() for image in images])
        colors[camera.name] = np.mean([image[40:56, 40:56].mean(axis=(0, 1)) for image in images], axis=0)
    assert abs(seen["tabletop-round"] - np.pi / 4) < 0.03
    assert seen["tabletop-cut"] < seen["tabletop-round"] - 0.05
    blue_share = {name: color[2] / color.sum() for name, color in colors.items()}
    assert blue_share["nonmydriatic-pale"] > 1.5 * blue_share["tabletop-round"]


def _straightened(image_id, size=160):
    """Local contrast of the green channel, turned, shifted and scaled so that disc and fovea lie in fixed places."""
    place = landmarks_of(image_id, SEED)
    image = render(image_id, SEED, size).astype(float)[:, :, 1]
    contrast = image / np.maximum(ndimage.gaussian_filter(image, 6), 5)
    disc, fovea = np.array(place.disc) * size - 0.5, np.array(place.fovea) * size - 0.5
    along = disc - fovea
    across = np.array([along[1], -along[0]]) * (1 if "right" in image_id else -1)
    steps_along, steps_across = np.meshgrid(np.linspace(0.0, 0.75, 40), np.linspace(-0.7, 0.7, 60))
    places = fovea[:, None, None] + along[:, None, None] * steps_along + across[:, None, None] * steps_across
    patch = ndimage.map_coordinates(ndimage.gaussian_filter(contrast, 1.0), places[::-1], order=1, mode="nearest")
    return (patch - patch.mean()) / patch.std()


def test_photographs_of_one_eye_share_their_vessels_and_those_of_others_do_not():
    # Grade 0 only, so that shared lesions cannot help.
    eyes = [r.image_id[:-1] for r in synthetic_records(60, SEED) if r.label == "0" and r.image_id.endswith("/0")][:14]
    first, second = ([_straightened(f"{eye}{i}") for eye in eyes] for i in (0, 1))
    likeness = np.array([[np.mean(a * b) for b in second] for a in first])
    same = np.diag(likeness)
    other = likeness[~np.eye(len(eyes), dtype=bool)]
    assert same.mean() > other.mean() + 0.25
    assert np.mean(np.argmax(likeness, axis=1) == np.arange(len(eyes))) > 0.7


def test_two_photographs_of_an_eye_differ_in_pose():
    for eye in ("left", "right"):
        places = [landmarks_of(f"synthetic/p0002/{eye}/{photograph}", SEED).disc for photograph in range(4)]
        assert len(set(places)) == 4


def test_a_pose_maps_the_pixel_grid_back_to_itself():
    for mirrored in (False, True):
        pose = Pose(gaze=(3.0, -1.0), turn=0.2, px_per_degree=2.5, size=20, mirrored=mirrored)
        grid = pose.retina_grid()
        pixels = pose.to_pixels(np.stack([grid.x.ravel(), grid.y.ravel()], axis=1))
        rows, columns = np.mgrid[:20, :20]
        np.testing.assert_allclose(pixels, np.stack([columns.ravel(), rows.ravel()], axis=1), atol=1e-9)


def test_a_stroke_covers_its_width_times_its_length():
    layer = np.zeros((64, 64))
    stroke = Strokes(
        start=np.array([[10.3, 12.1]]),
        end=np.array([[50.3, 42.1]]),
        radius=np.array([1.7]),
        strength=np.array([1.0]),
    )
    draw_strokes(layer, stroke)
    assert layer.max() == pytest.approx(1.0)
    assert layer.sum() == pytest.approx(50 * 3.4 + np.pi * 1.7**2, rel=0.03)


def test_a_thin_stroke_keeps_its_absorption_and_shapes_outside_the_layer_leave_it_alone():
    layer = np.zeros((64, 64))
    thin = Strokes(
        start=np.array([[5.0, 30.2]]),
        end=np.array([[60.0, 30.2]]),
        radius=np.array([0.2]),
        strength=np.ones(1),
    )
    draw_strokes(layer, thin)
    # The column sum varies with where the line lies between the pixels, by the shape of the smoothing box.
    assert layer[:, 20:40].sum(axis=0).mean() == pytest.approx(0.4, rel=0.35)
    outside = np.zeros((64, 64))
    far = Strokes(start=np.array([[-90.0, 5.0]]), end=np.array([[-80.0, 5.0]]), radius=np.ones(1), strength=np.ones(1))
    draw_strokes(outside, far)
    assert outside.sum() == 0


@pytest.mark.parametrize("radius", [0.3, 0.5, 2.0, 6.0])
def test_a_blob_absorbs_in_proportion_to_its_area(radius):
    row = {
        "lobes": np.zeros((1, 3)),
        "phases": np.zeros((1, 3)),
        "softness": np.array([0.1]),
        "strength": np.ones(1),
    }
    total = []
    for shift in np.linspace(0, 1, 7, endpoint=False):
        center, angle = np.array([[20 + shift, 20 + 0.37 * shift]]), np.array([0.4])
        layer = np.zeros((41, 41))
        blobs = Blobs(center=center, radius=np.array([radius]), aspect=np.array([1.5]), angle=angle, **row)
        draw_blobs(layer, blobs)
        total.append(layer.sum())
    assert blobs.area[0] == pytest.approx(np.pi * radius**2)
    assert np.mean(total) == pytest.approx(np.pi * radius**2, rel=0.35 if radius < 1 else 0.06)


def test_a_mirrored_pose_mirrors_an_elongated_blob():
    row = {
        "lobes": np.zeros((1, 3)),
        "phases": np.zeros((1, 3)),
        "softness": np.array([0.2]),
        "strength": np.ones(1),
    }
    blobs = Blobs(
        center=np.array([[4.0, 2.0]]),
        radius=np.array([3.0]),
        aspect=np.array([4.0]),
        angle=np.array([0.6]),
        **row,
    )
    layers = []
    for mirrored in (False, True):
        layer = np.zeros((60, 60))
        pose = Pose(gaze=(0.0, 0.0), turn=0.0, px_per_degree=2.0, size=60, mirrored=mirrored)
        draw_blobs(layer, pose.blobs_to_pixels(blobs))
        layers.append(layer)
    np.testing.assert_allclose(layers[1], layers[0][:, ::-1], atol=1e-9)


def test_colors_match_real_photographs(fundus_dir):
    """Mean of each channel inside the field within one between-photograph SD of three real collections together."""
    from PIL import Image

    def means(images):
        return np.array([image[image.sum(axis=2) > 45].mean(axis=0) for image in images])

    files = [f for name in ("aptos2019", "odir3", "srahim_dr") for f in sorted((fundus_dir / name).glob("*.jpg"))[:40]]
    real = means([np.asarray(Image.open(f).convert("RGB").resize((48, 48))).astype(float) for f in files])
    names = [record.image_id for record in synthetic_records(25, SEED)]
    synthetic = means([render(name, SEED, 48).astype(float) for name in names])
    assert np.all(np.abs(real.mean(axis=0) - synthetic.mean(axis=0)) < real.std(axis=0))
    assert np.all(synthetic.std(axis=0) > 0.4 * real.std(axis=0))
