"""A run: the same bytes whether interrupted or not, nothing but what was asked for, and no other run in its folder."""

import dataclasses
import json
import random
import shutil
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from labelled import make

from dave_jax.attribution.baselines.floors import CentreMap, RandomMap
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import settings
from dave_jax.evaluation.data import read
from dave_jax.evaluation.grid import mosaic
from dave_jax.evaluation.localisation import energy_in_region
from dave_jax.evaluation.map_metrics import EnergyPG, GridPG, Perturbation
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.perturbation import PerturbationProtocol
from dave_jax.evaluation.run import run
from dave_jax.evaluation.settings import Settings
from dave_jax.evaluation.summary import seconds_per_map, summarise
from dave_jax.models.resize import at_image_size

METHODS = {"input_x_gradient": InputTimesGradient(), "random": RandomMap()}
METRICS = {"energypg": EnergyPG(), "deletion": Perturbation(PerturbationProtocol(points=3)), "gridpg": GridPG()}
SETTINGS = Settings(seed=3, max_images=5, num_mosaics=2, min_confidence=0.0)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    model = make(folder)
    return model, read(folder, model)


@pytest.fixture(scope="module")
def finished(labelled, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(*labelled, METHODS, METRICS, folder, SETTINGS)
    return folder


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def contents(folder, *, but: str = "timing.jsonl") -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != but}


def test_every_method_and_subject_in_order(finished, labelled):
    names = [row["name"] for row in json.loads((finished / "choice.json").read_text())["photographs"]]
    marked = {photograph.name for photograph in labelled[1] if photograph.marked}
    assert len(names) == 5 and [name in marked for name in names] == sorted((name in marked for name in names), reverse=True)
    rows = lines(finished)
    assert [(row["method"], row["subject"]) for row in rows] == [(m, s) for m in METHODS for s in [*names, "mosaic 0", "mosaic 1"]]
    for row in rows:
        expected = (
            {"gridpg"} if row["subject"].startswith("mosaic") else {"deletion"} | ({"energypg"} if row["subject"] in marked else set())
        )
        assert set(row["scores"]) == expected
    assert len((finished / "timing.jsonl").read_text().splitlines()) == len(rows)
    assert set(seconds_per_map(finished)) == set(METHODS)
    assert len(list((finished / "maps" / "random").iterdir())) == 6


def test_scores_are_those_of_the_functions(finished, labelled):
    model, photographs = labelled
    by_name, stored = {photograph.name: photograph for photograph in photographs}, json.loads((finished / "choice.json").read_text())
    scores = {(row["method"], row["subject"]): row["scores"] for row in lines(finished)}
    key = jax.random.key(SETTINGS.seed)
    for name, method in METHODS.items():
        first = by_name[stored["photographs"][0]["name"]]
        maps = method(
            model, model.preprocess(first.photo()), [first.target], key=key, image_ids=np.uint32([crc32(first.name.encode())]), raw=True
        )
        share = energy_in_region(maps, jnp.asarray(first.region(model.preprocessing))[None])
        np.testing.assert_allclose(scores[name, first.name]["energypg"]["share"], share[0], rtol=1e-6)  # seven digits are stored
        cells = [by_name[cell] for cell in stored["mosaics"][1]]
        picture = mosaic(model.preprocess([cell.photo() for cell in cells]))
        large, targets, ids = at_image_size(model, (32, 32)), [[cell.target for cell in cells]], np.uint32([crc32(b"mosaic 1")])
        maps = np.asarray(method(large, picture[None], targets, key=key, image_ids=ids, raw=True), np.float64)[0].clip(0)
        quarters = [
            (slice(0, 16), slice(0, 16)),
            (slice(0, 16), slice(16, 32)),
            (slice(16, 32), slice(0, 16)),
            (slice(16, 32), slice(16, 32)),
        ]
        shares = [heat[quarter].sum() / heat.sum() for heat, quarter in zip(maps, quarters, strict=True)]
        np.testing.assert_allclose(scores[name, "mosaic 1"]["gridpg"]["share"], shares, rtol=1e-5)  # sums in float32


def test_an_interrupted_run_ends_with_the_same_bytes(finished, labelled, tmp_path):
    """Killed at any moment: the last lines are missing or half written, a document may not be there yet."""
    whole = (finished / "scores.jsonl").read_bytes()
    draw = random.Random(0)
    expected = contents(finished), summarise(finished, METRICS, 3)
    for i, cut in enumerate([0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(4))]):
        folder = tmp_path / str(i)
        shutil.copytree(finished, folder)
        (folder / "scores.jsonl").write_bytes(whole[:cut])
        timing = (folder / "timing.jsonl").read_bytes()
        (folder / "timing.jsonl").write_bytes(timing[: len(timing) * cut // len(whole)])
        if i == 0:
            (folder / "choice.json").unlink()
            (folder / "choice.json.part").write_text("{")
        run(*labelled, METHODS, METRICS, folder, SETTINGS)
        (folder / "choice.json.part").unlink(missing_ok=True)
        assert contents(folder) == expected[0], cut
        assert summarise(folder, METRICS, 3) == expected[1]
    again = contents(finished, but="")
    run(*labelled, METHODS, METRICS, finished, SETTINGS)  # finished: nothing is left to do
    assert contents(finished, but="") == again


def test_a_map_does_not_depend_on_the_others(finished, labelled, tmp_path):
    methods = {name: METHODS[name] for name in reversed(METHODS)}
    run(*labelled, methods, {"energypg": EnergyPG(), "deletion": METRICS["deletion"]}, tmp_path / "run", SETTINGS)
    scores = {(row["method"], row["subject"]): row["scores"] for row in lines(finished)}
    rows = lines(tmp_path / "run")
    assert len(rows) == 10 and all(row["scores"] == scores[row["method"], row["subject"]] for row in rows)


def test_methods_may_be_added_at_the_end(finished, labelled, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run(*labelled, METHODS | {"centre": CentreMap()}, METRICS, folder, SETTINGS)
    assert (folder / "scores.jsonl").read_bytes().startswith((finished / "scores.jsonl").read_bytes())
    assert list(json.loads((folder / "run.json").read_text())["methods"]) == [*METHODS, "centre"]
    assert len(lines(folder)) == 21


OTHER = [
    ({"settings": dataclasses.replace(SETTINGS, seed=4)}, r"settings\.seed: 3 -> 4"),
    ({"metrics": METRICS | {"energypg": EnergyPG(smoothing=3)}}, r"metrics\.energypg\.smoothing: 1 -> 3"),
    ({"metrics": {"energypg": EnergyPG()}}, r"metrics\.deletion: "),
    ({"methods": METHODS | {"random": CentreMap()}}, r'methods\.random\.type: "RandomMap" -> "CentreMap"'),
    ({"methods": {"random": RandomMap()}}, r"methods\.input_x_gradient: "),
    ({"methods": {"random": RandomMap(), "input_x_gradient": InputTimesGradient()}}, "methods and metrics in another order"),
    ({"metrics": dict(reversed(METRICS.items()))}, "methods and metrics in another order"),
    ({"drop": 1}, r"data\.photographs: 40 -> 39"),
    ({"source": "another"}, r'model\.source: "made up" -> "another"'),
]


@pytest.mark.parametrize(("change", "message"), OTHER)
def test_another_run_is_refused(change, message, finished, labelled):
    before = contents(finished, but="")
    model, photographs = labelled
    model = dataclasses.replace(model, source=change.get("source", model.source))
    arguments = {"methods": METHODS, "metrics": METRICS, "settings": SETTINGS} | {
        k: v for k, v in change.items() if k not in ("drop", "source")
    }
    with pytest.raises(ValueError, match=rf"holds a run of another configuration .*{message}"):
        run(model, photographs[change.get("drop", 0) :], folder=finished, **arguments)
    assert contents(finished, but="") == before


@dataclasses.dataclass(frozen=True)
class Spy(Metric):
    """Keeps the cases that it sees."""

    seen: list = dataclasses.field(default_factory=list)

    needs, headline = "photograph", "value"

    def score(self, case):
        self.seen.append(case)
        return {"value": jnp.nan, "row": [0.5, jnp.inf]}


def test_what_a_metric_gets(labelled, tmp_path):
    model, photographs = labelled
    spy, runs = Spy(), []

    @settings()
    class Counted(RandomMap):
        def __call__(self, *args, **options):
            runs.append(args[1].shape)
            return super().__call__(*args, **options)

    two_photographs = dataclasses.replace(SETTINGS, max_images=2)
    run(model, photographs, {"one": Counted(), "two": Dave(num_samples=2)}, {"spy": spy}, tmp_path / "run", two_photographs)
    one, other, two, _ = spy.seen
    assert one.key == two.key != other.key  # of the subject, not of the method
    assert one.image.shape == (16, 16, 3) and one.maps.shape == (1, 16, 16) and one.targets.shape == (1,) and one.model is model
    np.testing.assert_array_equal(one.explain(model, one.image[None], one.targets), one.maps)
    assert len(runs) == 2  # one for each subject: what has been computed is not computed again
    both = one.explain(model, one.image[None], jnp.stack([one.targets, one.targets + 1], axis=1) % 5)
    assert both.shape == (1, 2, 16, 16) and len(runs) == 3
    assert lines(tmp_path / "run")[0]["scores"] == {"spy": {"value": None, "row": [0.5, None]}}


def test_bad_runs(labelled, tmp_path):
    model, photographs = labelled
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    bare = [dataclasses.replace(photograph, boxes=()) for photograph in photographs]
    foreign = dataclasses.replace(model, forward=lambda params, image, decomposition: image.sum((0, 1)))
    for arguments, message, error in (
        (
            (model, bare, METHODS, METRICS, tmp_path / "new"),
            "energypg needs boxes or masks, and none of the 40 photographs has any",
            ValueError,
        ),
        ((model, photographs, {}, METRICS, tmp_path / "new"), "at least one method and one metric", ValueError),
        ((model, photographs, {"a/b": RandomMap()}, METRICS, tmp_path / "new"), "got 'a/b'", ValueError),
        ((model, photographs, METHODS, METRICS, tmp_path / "other"), "holds something else", ValueError),
        ((model, photographs, METHODS, METRICS, tmp_path / "other" / "mine.txt"), "is a file", ValueError),
        ((foreign, photographs, METHODS, METRICS, tmp_path / "new"), "can change its image size", TypeError),
    ):
        with pytest.raises(error, match=message):
            run(*arguments, SETTINGS)
    few = [*bare[:20], *(photograph for photograph in photographs if photograph.marked)][:21]  # the last one is marked
    wrong = dataclasses.replace(few[-1], target=(few[-1].target + 1) % 5)
    with pytest.raises(ValueError, match="None of the 5 chosen photographs has boxes or a mask"):
        run(model, [*few[:-1], wrong], METHODS, METRICS, tmp_path / "new", SETTINGS)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("change", [{"max_images": 0}, {"num_mosaics": 0}, {"rows": 1}, {"min_confidence": 1.5}])
def test_bad_settings(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings(**change)
