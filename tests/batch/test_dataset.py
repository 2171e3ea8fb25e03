"""A whole run in this process: the maps are those of `explain`, whatever is broken, stopped or asked for again."""

import dataclasses
import functools
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax.attribution.baselines.occlusion import Occlusion
from dave_jax.attribution.baselines.rollout import Rollout
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.methods import methods
from dave_jax.batch.dataset import execute, prepare
from dave_jax.batch.engine import device_mesh
from dave_jax.batch.plan import plan
from dave_jax.effective.decomposition import freeze

KEY = dict(key=jax.random.key(3))
OPTIONS = KEY | {"targets": "top-2", "batch_size": 4}
BROKEN = {3: "cannot be read", 6: "not a photograph"}


def files(place: str) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten photographs, two of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:80])
    (folder / "6.png").write_text("text")
    return folder


@pytest.fixture(scope="module")
def model():
    return dave.testing.tiny_model(depth=1)


@pytest.fixture(scope="module")
def job(model, photos, tmp_path_factory):
    """The tests share its compiled program."""
    return prepare(model, photos, tmp_path_factory.mktemp("stores") / "whole.zarr", **OPTIONS)


@pytest.fixture(scope="module")
def whole(job):
    """The undisturbed run."""
    outcome = execute(job)
    assert (outcome.images, outcome.explained, outcome.failed, outcome.computed, outcome.stopped) == (10, 8, 2, 10, False)
    return dave.open_maps(job.place)


def test_maps_are_those_of_explain(model, photos, whole):
    good = [i for i in range(10) if i not in BROKEN]
    images = model.preprocess([photos / f"{i}.png" for i in good])
    logits = np.asarray(model.logits(images))
    targets = np.argsort(-logits, axis=1)[:, :2]
    expected = dave.explain(model, images, targets, image_ids=np.array(good), **KEY)
    np.testing.assert_array_equal(whole.targets[good], targets)
    np.testing.assert_allclose(np.asarray(whole.arrays["maps"])[good], expected, atol=1e-6)  # another program, other rounding
    entry = whole[good[-1]]
    np.testing.assert_allclose(entry.logits, logits[-1, targets[-1]], atol=1e-6)
    np.testing.assert_allclose(entry.probabilities, jax.nn.softmax(logits[-1])[targets[-1]], atol=1e-6)
    residuals = [float(dave.completeness(model, images[-1], int(target))) for target in targets[-1]]
    np.testing.assert_allclose(entry.completeness, residuals, atol=1e-6)
    shares = [float(dave.bias_contributions(model, images[-1], int(target)).share) for target in targets[-1]]
    np.testing.assert_allclose(entry.bias_shares, shares, rtol=1e-4)  # logits near zero
    assert entry.name == "9.png" and entry.reason == ""


def test_broken_photographs_are_recorded_with_their_reasons(whole):
    assert np.flatnonzero(whole.status == 2).tolist() == list(BROKEN)
    for index, reason in BROKEN.items():
        assert reason in whole.reasons[index] and whole[index].reason == whole.reasons[index]
        assert np.isnan(whole[index].maps).all() and whole[index].name == f"{index}.png"
    assert np.isfinite(np.asarray(whole.arrays["maps"])[whole.status == 1]).all()


def test_a_stopped_run_goes_on_to_the_same_bytes(job, whole, tmp_path):
    other = dataclasses.replace(job, place=str(tmp_path / "stopped.zarr"))
    asked = itertools.count()
    first = execute(other, stop=lambda: next(asked) >= 1)  # asked before the first batch and after it
    assert first.stopped and first.computed == 4 and dave.open_maps(other.place).status.tolist() == [1, 1, 1, 2] + [0] * 6
    second = execute(other)
    assert not second.stopped and second.computed == 6
    assert files(other.place) == files(job.place)
    assert execute(other).computed == 0


def test_nothing_is_read_or_compiled_where_all_is_done(job, whole, monkeypatch):
    def forbidden():
        raise AssertionError

    assert execute(dataclasses.replace(job, work=dataclasses.replace(job.work, compile=forbidden))).computed == 0


def test_what_failed_is_tried_again_on_request(job, whole, photos, tmp_path):
    place = str(tmp_path / "retried.zarr")
    other = dataclasses.replace(job, place=place)
    execute(other)
    content = (photos / "3.png").read_bytes()
    try:
        (photos / "3.png").write_bytes((photos / "2.png").read_bytes())
        assert execute(other).computed == 0
        outcome = execute(other, retry_failed=True)
    finally:
        (photos / "3.png").write_bytes(content)
    assert outcome.computed == 8 and outcome.explained == 9
    np.testing.assert_array_equal(dave.open_maps(place).targets[3], dave.open_maps(place).targets[2])


def test_a_retry_keeps_what_was_explained(job, whole, photos, tmp_path):
    """A file of the same batch that is away now: its map stays, and so does the whole store."""
    other = dataclasses.replace(job, place=str(tmp_path / "kept.zarr"))
    execute(other)
    content = (photos / "0.png").read_bytes()
    try:
        (photos / "0.png").unlink()
        outcome = execute(other, retry_failed=True)
    finally:
        (photos / "0.png").write_bytes(content)
    assert outcome.computed > 0 and dave.open_maps(other.place).status[0] == 1
    assert files(other.place) == files(job.place)


def test_a_retry_that_is_stopped_says_so(job, whole, tmp_path):
    other = dataclasses.replace(job, place=str(tmp_path / "stopped_retry.zarr"))
    execute(other)
    assert execute(other, retry_failed=True, stop=lambda: True).stopped


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"key": jax.random.key(4)}, r"key\.data: \[0, 3\] -> \[0, 4\]"),
        ({"targets": "top-1"}, 'targets: "top-2" -> "top-1"'),
        ({"config": dave.DaveConfig(num_samples=4, noise_alpha=0.25)}, r"config\.noise_alpha: 0\.5 -> 0\.25"),
        ({"dtype": "float16"}, "dtype"),
        ({"batch_size": 5}, "batch_size: 4 -> 5"),
        ({"decomposition": "gradient"}, "decomposition"),
        ({"decomposition": dave.Decomposition("effective", attention=lambda op: op)}, "decomposition"),
    ],
)
def test_other_settings_are_refused_with_the_difference(model, photos, job, whole, change, difference):
    with pytest.raises(ValueError, match=f"holds another run.*{difference}"):
        prepare(model, photos, job.place, **OPTIONS | change)


def test_another_model_or_data_set_is_refused(photos, job, whole, tmp_path):
    with pytest.raises(ValueError, match=r"model\.checksum"):
        prepare(dave.testing.tiny_model(1, depth=1), photos, job.place, **OPTIONS)
    with pytest.raises(ValueError, match=r"data\.images: 10 -> 1"):
        prepare(dave.testing.tiny_model(depth=1), [photos / "0.png"], job.place, **OPTIONS)


def test_settings_that_are_not_given_are_those_of_the_store(model, photos, job, whole):
    again = prepare(model, photos, job.place, targets="top-2", **KEY)
    assert again.attributes == job.attributes and again.stored


def test_the_store_tells_what_its_maps_depend_on(model, whole):
    run = whole.attributes["run"]
    assert run["dave_jax"] == dave.__version__ and run["model"]["name"] == "tiny" and len(run["model"]["checksum"]) == 16
    config = dave.DaveConfig(**run["config"])
    decided = {name: getattr(config, name) for name in ("chunk_size", "precision", "warp_adjoint", "mad_pilot")}
    assert None not in decided.values()  # by the first run, for every machine that goes on with it
    assert config == dataclasses.replace(model.config, **decided)
    assert json.loads(json.dumps(run)) == run


def test_a_plan_writes_nothing(job, tmp_path):
    planned = plan(dataclasses.replace(job, place=str(tmp_path / "plan.zarr"), stored=False))
    assert not (tmp_path / "plan.zarr").exists()
    assert planned["batches"] == planned["batches_left"] == 3 and planned["bytes_per_device"] > 0 and planned["seconds_per_batch"] > 0
    assert planned["bytes_of_maps"] == 10 * 2 * 16 * 16 * 4


def test_a_decomposition_of_ones_own_is_known_by_its_rules(model, photos, tmp_path):
    rules = [dave.Decomposition("mine", attention=rule) for rule in (lambda op: op, lambda op: freeze(op))]
    first, again, other = (
        prepare(model, photos, tmp_path / "own.zarr", decomposition=one, **OPTIONS).attributes["run"]["decomposition"]
        for one in (rules[0], rules[0], rules[1])
    )
    assert first == again != other and first["name"] == "mine" and first["residual"] == "add"


@pytest.mark.parametrize(
    ("devices", "images", "samples", "expected"),
    [
        (8, 32, 50, (8, 1)),
        (8, 8, 50, (8, 1)),
        (8, 3, 50, (4, 2)),
        (8, 1, 16, (1, 8)),
        (8, 1, 50, (4, 2)),
        (8, 1, 7, (8, 1)),
        (1, 1, 1, (1, 1)),
    ],
)
def test_devices_share_samples_where_images_are_few(devices, images, samples, expected):
    assert device_mesh([jax.devices()[0]] * devices, images, samples).devices.shape == expected


@pytest.mark.parametrize(
    ("way", "method", "settings", "accounted"),
    [
        pytest.param({"method": "smoothgrad"}, methods["smoothgrad"], {"settings.type": "SmoothGrad"}, True, marks=pytest.mark.slow),
        ({"method": Rollout()}, Rollout(), {"settings.type": "Rollout"}, False),
        pytest.param(
            {"method": "dave_gradient"}, Dave(decomposition="gradient"), {"decomposition": "gradient"}, True, marks=pytest.mark.slow
        ),
    ],
)
def test_maps_of_other_methods(model, photos, tmp_path, way, method, settings, accounted):
    names = [photos / f"{i}.png" for i in (0, 1, 3)]  # the last is broken
    maps = dave.explain_dataset(model, names, tmp_path / "other.zarr", **OPTIONS, **way)
    expected = method(model, model.preprocess(names[:2]), maps.targets[:2], image_ids=np.arange(2), **KEY)
    np.testing.assert_allclose(np.asarray(maps.arrays["maps"])[:2], expected, atol=2e-6)  # another program, other rounding
    assert maps.status.tolist() == [1, 1, 2] and np.isfinite(maps[0].completeness).all() == accounted
    run = maps.attributes["run"]
    assert run["method"] == type(method).__name__
    for place, value in settings.items():
        assert functools.reduce(lambda document, name: document[name], place.split("."), run) == value
    again = prepare(model, names, tmp_path / "other.zarr", targets="top-2", **KEY, **way)  # the chunk is the store's
    assert again.stored and again.attributes["run"] == run
    with pytest.raises(ValueError, match=rf'holds another run \(method: "{run["method"]}" -> "InputTimesGradient"\)\. Give'):
        prepare(model, names, tmp_path / "other.zarr", method="attn_lrp", **OPTIONS)


def test_a_method_and_its_settings_are_told_apart(model, photos, tmp_path):
    with pytest.raises(ValueError, match="config and decomposition are DAVE's"):
        prepare(model, photos, tmp_path / "x.zarr", method="legrad", decomposition="gradient", **OPTIONS)
    with pytest.raises(ValueError, match=r"No method is called 'legard'. Near names: legrad"):
        prepare(model, photos, tmp_path / "x.zarr", method="legard", **OPTIONS)
    with pytest.raises(ValueError, match="window"):  # before a store is there
        prepare(model, photos, tmp_path / "x.zarr", method=Occlusion(window=99), **OPTIONS)
    assert not (tmp_path / "x.zarr").exists()


def test_bad_options_are_refused(model, photos, tmp_path):
    for wrong in ({"dtype": "float64"}, {"batch_size": 0}, {"targets": "zebra"}):
        with pytest.raises(ValueError):
            prepare(model, photos, tmp_path / "x.zarr", **OPTIONS | wrong)
    with pytest.raises(TypeError, match="sequence of photographs"):
        prepare(model, 3, tmp_path / "x.zarr", **OPTIONS)
    assert not (tmp_path / "x.zarr").exists()
