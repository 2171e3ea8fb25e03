"""From a file and a question to what the page shows, the files it offers and the program that gives the same: without gradio."""

import dataclasses
import io
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import dave_jax as dave
from dave_jax import plot
from dave_jax.app.drawing import board, fill
from dave_jax.app.limits import Limits
from dave_jax.app.question import Question, as_targets, check
from dave_jax.app.session import Shown, Studio, Upload, known_name, look, respond
from dave_jax.app.snippet import EXAMPLES, Source, snippet
from dave_jax.attribution.methods import methods

NAMES = ("tench", "church", "<b>saw</b>", "gas pump", 'golf "ball"')


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a saved model and a photograph."""
    folder = tmp_path_factory.mktemp("place")
    dave.save(dataclasses.replace(dave.testing.tiny_model(), class_names=NAMES), folder / "tiny")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "cat.png")
    (folder / "results").mkdir()
    return folder


@pytest.fixture(scope="module")
def studio(place):
    model = dave.load(place / "tiny")
    return Studio({"tiny": model}, {"tiny": Source("tiny")}, Limits(), place / "results")


@pytest.fixture(scope="module")
def upload(place):
    return Upload(place / "cat.png", "cat.png")


def ask(studio: Studio, upload: Upload, question: Question) -> list[Shown]:
    return list(respond(studio, "tiny", upload, question, "me"))


def run(program: str, folder, monkeypatch) -> dict:
    """The program's variables, run where its files are."""
    monkeypatch.chdir(folder)
    namespace = {}
    exec(compile(program, "snippet", "exec"), namespace)
    assert (folder / "panel.png").is_file()
    return namespace


def test_classes_side_by_side(studio, upload, place, monkeypatch):
    shown = ask(studio, upload, Question((1, 3), num_samples=4, seed=5))
    assert [found.busy for found in shown] == [True] * 4 + [False]  # computing, after 1, 2 and 3 samples, and all
    assert [re.search('data-samples="(.*?)"', found.board)[1] for found in shown] == ["", "1", "2", "3", "4"]
    assert len({found.board for found in shown}) == 5 and studio.turns._line == []
    last = shown[-1]
    model, config = studio.models["tiny"], studio.models["tiny"].config.with_samples(4)
    images = model.preprocess(upload.path)
    expected = dave.explain(model, images, [[1, 3]], key=jax.random.key(5), config=config)[0]
    saved = np.load(last.maps)
    np.testing.assert_allclose(saved["map"], expected, atol=1e-5)  # float32, divided by small maxima
    assert saved["target"].tolist() == [1, 3] and saved["target_name"].tolist() == ["church", "gas pump"]
    np.testing.assert_allclose(saved["probability"], jax.nn.softmax(model.logits(images)[0])[np.array([1, 3])], rtol=1e-5)
    provenance = json.loads(str(saved["provenance"]))
    assert (provenance["photo"], provenance["seed"], provenance["method"]) == ("cat.png", 5, "dave")
    assert provenance["config"]["num_samples"] == 4 and len(provenance["photo_sha256"]) == 64
    found = run(last.code, place, monkeypatch)
    np.testing.assert_allclose(found["maps"][0], saved["map"], atol=1e-5)
    assert found["titles"] == ["church", "gas pump"]
    with Image.open(last.picture) as mine, Image.open(place / "panel.png") as theirs:
        assert mine.size == theirs.size


@pytest.mark.slow
def test_a_contrast(studio, upload, place, monkeypatch):
    *_, last = ask(studio, upload, Question((4, 2), contrast=True, num_samples=4))
    model, saved = studio.models["tiny"], np.load(last.maps)
    contrast = np.zeros((1, 5), np.float32)
    contrast[0, 4], contrast[0, 2] = 1, -1
    expected = dave.explain(model, model.preprocess(upload.path), contrast, key=jax.random.key(0), config=model.config.with_samples(4))
    np.testing.assert_allclose(saved["map"], expected, atol=1e-5)
    assert saved["target_name"].tolist() == ['golf "ball" rather than <b>saw</b>']
    assert json.loads(str(saved["provenance"]))["rather_than"]["class"] == 2
    np.testing.assert_allclose(run(last.code, place, monkeypatch)["maps"], saved["map"], atol=1e-5)
    assert "golf &quot;ball&quot; rather than &lt;b&gt;saw&lt;/b&gt;" in last.board and "<b>saw" not in last.board


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dave_attn_lrp", "dave_fast", "legrad", "smoothgrad"])
def test_other_methods(method, studio, upload, place, monkeypatch):
    *_, last = ask(studio, upload, Question((1,), method=method, num_samples=4))
    expected = methods[method]
    if hasattr(expected, "num_samples") and method != "dave_fast":
        expected = dataclasses.replace(expected, num_samples=4)
    model = studio.models["tiny"]
    maps = expected(model, model.preprocess(upload.path), [[1]], key=jax.random.key(0))[0]
    np.testing.assert_allclose(np.load(last.maps)["map"], maps, atol=1e-5)
    np.testing.assert_allclose(run(last.code, place, monkeypatch)["maps"][0], maps, atol=1e-5)


def test_a_photographs_name_in_the_program(studio, upload, tmp_path):
    model = studio.models["tiny"]
    code = lambda name: snippet(Source(), model, name, Question((0,)), 5)
    example = sorted(EXAMPLES.glob("*.jpg"))[0]
    assert known_name(Upload(example, "renamed.jpg")) == example.name
    assert f'"assets" / "photos" / {example.name!r}' in code(example.name) and "dave.load()" in code(example.name)
    assert known_name(Upload(upload.path, example.name)) == f"my_{example.name}"  # another photograph of that name is not taken for it
    assert known_name(Upload(upload.path, "C:\\x\\../a'b\n.png")) == "a'b\n.png"
    compile(code("a'b\n.png"), "snippet", "exec")
    assert 'preprocess("a\'b\\n.png")' in code("a'b\n.png")


def test_a_new_question_or_a_stop_ends_the_old_one(studio, upload):
    old = respond(studio, "tiny", upload, Question((1, 3), num_samples=4), "me")
    assert [next(old).busy, next(old).busy] == [True, True]
    other = respond(studio, "tiny", upload, Question((1, 3), num_samples=4), "you")
    assert "Waiting: 1 before you." in next(other).board
    new = respond(studio, "tiny", upload, Question((3, 1), num_samples=4), "me")
    assert "Waiting: 1 before you." in next(new).board  # behind the other, for the old one is over
    assert list(old) == []
    assert "Computing" in next(other).board
    studio.turns.leave("you")
    assert list(other) == []
    assert "Computing" in next(new).board
    look(studio, "tiny", upload, "me")  # another photograph
    assert list(new) == [] and studio.turns._line == []


def test_what_cannot_be_asked(studio, upload, place):
    for question, message in (
        (Question(()), "at least one class"),
        (Question((7,)), "Class ids must lie in 0 to 4"),
        (Question((*range(5), 0, 1)), "At most 6 classes"),
        (Question((1, 1), contrast=True), "two different classes"),
        (Question((1,), contrast=True), "two different classes"),
        (Question((1,), method="legrat"), "Near names: legrad"),
        (Question((1,), num_samples=0), "at least 1 sample"),
        (Question((1,), num_samples=10**9), "At most 1024"),
        (Question((1,), seed=-1), "seed is an integer from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            check(question, 5)
    with pytest.raises(ValueError, match="no model 'other'"):
        look(studio, "other", upload, "me")
    (place / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a photograph"):
        ask(studio, Upload(place / "text.png", "text.png"), Question((1,)))
    assert studio.turns._line == []


def test_pictures_are_inside_the_page(studio, upload):
    seen = look(studio, "tiny", upload, "me")
    text = board(studio.models["tiny"], seen.pixels, seen.odds, Question((0,)))
    sources = re.findall(r'src="(.*?)"', text)
    assert len(sources) == 1 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "&lt;b&gt;saw&lt;/b&gt;" in text and "<b>" not in text
    assert fill("odds", kind="a", name='"><script>', percent="", width="").count("<script") == 0


def test_a_heat_map_alone():
    picture = plot.heat_picture(np.linspace(0, 1, 12).reshape(3, 4))
    file = io.BytesIO()
    picture.save(file, "PNG")
    assert picture.size == (4, 3) and picture.getpixel((0, 0)) != picture.getpixel((3, 2)) and file.tell() > 0


def test_targets_are_as_explain_takes_them():
    assert as_targets(Question((3, 1)), 5).tolist() == [[3, 1]]
    assert as_targets(Question((3, 1), contrast=True), 5).tolist() == [[0, -1, 0, 1, 0]]
