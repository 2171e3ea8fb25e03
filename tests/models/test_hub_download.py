"""`load` from the hub: its cache without a network, and a hub on this machine."""

import hashlib
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from timm_checkpoints import assert_same, shard, write_checkpoint

from dave_jax.models import hub, store

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


# The hub's cache, without a network


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def fill(cache: Path, repository: str, folder: Path, commit: str = COMMIT, ref: str = "main", absent: tuple[str, ...] = ()) -> None:
    """Lay a folder down as the hub's client does: blobs by hash, snapshots of links, names of commits, and files known to be absent."""
    root = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", f"snapshots/{commit}", "refs", f".no_exist/{commit}"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    for name in absent:
        (root / ".no_exist" / commit / name).touch()
    for file in folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (root / "snapshots" / commit / file.name).symlink_to(Path(os.path.relpath(blob, root / "snapshots" / commit)))


def test_a_cached_repository_needs_no_network(cache, tmp_path):
    params = write_checkpoint(tmp_path / "one", seed=1)
    others = write_checkpoint(tmp_path / "two", seed=2)
    fill(cache, "org/repo", tmp_path / "one")
    fill(cache, "org/repo", tmp_path / "two", commit=OTHER, ref="v2")
    model = hub.load("org/repo")
    assert_same(model.params, params)
    digest = hashlib.sha256((tmp_path / "one" / "model.safetensors").read_bytes()).hexdigest()
    assert (model.name, model.source) == ("org/repo", f"org/repo@{COMMIT} sha256:{digest[:16]}")
    for name, revision in (("org/repo@v2", None), ("org/repo", "v2"), (f"org/repo@{OTHER}", None), ("hf-hub:org/repo@v2", "v2")):
        model = hub.load(name, revision=revision)
        assert_same(model.params, others)
        assert f"@{OTHER} " in model.source


def test_a_name_of_timm_is_a_repository(cache, tmp_path):
    params = write_checkpoint(tmp_path / "one", architecture="deit3_base_patch16_224", pretrained_cfg={"tag": "fb_in1k"})
    fill(cache, "timm/deit3_base_patch16_224.fb_in1k", tmp_path / "one")
    for name in ("deit3_base_patch16_224.fb_in1k", "timm/deit3_base_patch16_224.fb_in1k", "hf_hub:timm/deit3_base_patch16_224.fb_in1k"):
        model = hub.load(name)
        assert_same(model.params, params)
        assert model.config.noise_alpha == 0.9 and model.source.startswith(f"timm/deit3_base_patch16_224.fb_in1k@{COMMIT} ")
        assert model.preprocessing.crop_fraction == 0.9  # the table's, where config.json is silent


def test_without_a_tag_timms_first(cache, tmp_path):
    write_checkpoint(tmp_path / "one", architecture="vit_small_patch16_224")
    fill(cache, "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", tmp_path / "one")
    model = hub.load("vit_small_patch16_224")
    assert model.name == "vit_small_patch16_224.augreg_in21k_ft_in1k" and model.config.noise_alpha == 0.1


def test_the_name_decides_where_architectures_share_a_repository(cache, tmp_path):
    write_checkpoint(tmp_path / "one", architecture="vit_base_patch16_clip_224")
    fill(cache, "timm/vit_base_patch16_clip_224.openai", tmp_path / "one")
    assert hub.load("vit_base_patch16_clip_224.openai").forward.config.activation == "gelu"
    assert hub.load("vit_base_patch16_clip_quickgelu_224.openai").forward.config.activation == "quick_gelu"


def test_our_own_format_and_shards_in_the_cache(cache, tmp_path):
    params = write_checkpoint(tmp_path / "timm")
    store.save(hub.load(tmp_path / "timm"), tmp_path / "ours")
    fill(cache, "org/ours", tmp_path / "ours", absent=("config.json",))
    model = hub.load("org/ours")
    assert_same(model.params, params)
    assert model.name == "timm" and model.source.startswith(f"org/ours@{COMMIT} sha256:")
    shard(tmp_path / "timm")
    fill(cache, "org/shards", tmp_path / "timm", absent=("model.safetensors",))
    assert_same(hub.load("org/shards").params, params)


def test_what_is_not_cached_needs_the_network(cache, tmp_path):
    write_checkpoint(tmp_path / "one")
    fill(cache, "org/repo", tmp_path / "one")
    for name in ("org/other", "org/repo@v7", "vit_tiny_patch16_224"):
        with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE must not be set.*HF_HOME.*pass a folder"):
            hub.load(name)


def test_a_repository_name_that_the_hub_would_not_take(cache):
    with pytest.raises(ValueError, match="is no name of a hub repository"):
        hub.load("org/a--b")


# A hub on this machine


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub as its client needs: files of a repository at a revision, their list, and its ways to say no."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, Path]] = {}  # repository to revision to folder
        self.refused: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        listing = path.startswith("/api/models/")
        owner, name, _, revision, *file = path.removeprefix("/api/models").split("/")[1:]
        repository = f"{owner}/{name}"
        if repository in self.server.refused:
            return self.refuse(*self.server.refused[repository])
        if repository not in self.server.repositories:
            return self.refuse(401, "RepoNotFound")
        folder = self.server.repositories[repository].get(revision)
        if folder is None:
            return self.refuse(404, "RevisionNotFound")
        if listing:
            files = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0"} for file in folder.iterdir()]
            return self.send(json.dumps(files).encode(), {"Content-Type": "application/json"}, body)
        if not (folder / file[0]).exists():
            return self.refuse(404, "EntryNotFound")
        content = (folder / file[0]).read_bytes()
        commit = revision if len(revision) == 40 else COMMIT
        return self.send(content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}, body)

    def send(self, content: bytes, headers: dict[str, str], body: bool):
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def refuse(self, status: int, code: str):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(cache, monkeypatch):
    """A hub that the client talks to, on the loopback device."""
    hub_here = Hub()
    thread = threading.Thread(target=hub_here.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{hub_here.server_port}")
    yield hub_here
    huggingface_hub.close_session()
    hub_here.shutdown()
    thread.join(timeout=10)
    hub_here.server_close()


def use_endpoint(monkeypatch, endpoint: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between tries
    huggingface_hub.close_session()


def serve(server: Hub, repository: str, folder: Path, *revisions: str) -> None:
    server.repositories[repository] = dict.fromkeys(revisions or ("main", COMMIT), folder)


def test_a_repository_is_downloaded_once_and_kept(server, tmp_path, monkeypatch):
    params = write_checkpoint(tmp_path / "one", architecture="deit_base_patch16_224")
    serve(server, "org/repo", tmp_path / "one")
    model = hub.load("org/repo")
    assert_same(model.params, params)
    assert model.source.startswith(f"org/repo@{COMMIT} sha256:") and model.config.noise_alpha == 0.7
    assert f"/org/repo/resolve/{COMMIT}/model.safetensors" in server.asked  # of the commit that config.json came from
    server.asked.clear()
    hub.load("org/repo")
    assert server.asked == ["/org/repo/resolve/main/config.json"]  # whether the branch has moved
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_same(hub.load("org/repo").params, params)


def test_a_revision_is_downloaded(server, tmp_path):
    params = write_checkpoint(tmp_path / "one")
    serve(server, "timm/vit_tiny_patch16_224.augreg_in21k", tmp_path / "one", OTHER)
    model = hub.load("vit_tiny_patch16_224.augreg_in21k", revision=OTHER)
    assert_same(model.params, params)
    assert f"@{OTHER} " in model.source
    with pytest.raises(ValueError, match="has no revision 'v9'"):
        hub.load("timm/vit_tiny_patch16_224.augreg_in21k@v9")


def test_shards_and_our_own_format_are_downloaded_and_kept(server, tmp_path, monkeypatch):
    params = write_checkpoint(tmp_path / "one")
    store.save(hub.load(tmp_path / "one"), tmp_path / "ours")
    shard(tmp_path / "one")
    serve(server, "org/shards", tmp_path / "one")
    serve(server, "org/ours", tmp_path / "ours")
    for offline in (False, True):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        assert_same(hub.load("org/shards").params, params)
        assert_same(hub.load("org/ours").params, params)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "one" / "part-2.safetensors").unlink()
    serve(server, "org/partial", tmp_path / "one")
    with pytest.raises(FileNotFoundError, match=r"lacks \['part-2\.safetensors'\]"):
        hub.load("org/partial")


def test_an_architecture_of_another_kind_is_refused_before_its_weights_are_downloaded(server, tmp_path):
    write_checkpoint(tmp_path / "one", architecture="efficientnet_b0")
    serve(server, "org/repo", tmp_path / "one")
    with pytest.raises(ValueError, match=r"'efficientnet_b0'.*is another kind of network"):
        hub.load("org/repo")
    assert not any("safetensors" in path for path in server.asked)


def test_a_repository_of_pickles(server, tmp_path):
    write_checkpoint(tmp_path / "one")
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "one" / "pytorch_model.bin")
    serve(server, "org/repo", tmp_path / "one")
    with pytest.raises(ValueError, match=r"holds 'pytorch_model\.bin' and no safetensors.*never unpickles"):
        hub.load("org/repo")
    assert not any(path.endswith(".bin") for path in server.asked)
    (tmp_path / "one" / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors.*config\.json"):
        hub.load("org/repo")


def test_a_repository_without_config_json(server, tmp_path):
    write_checkpoint(tmp_path / "one")
    (tmp_path / "one" / "config.json").unlink()
    serve(server, "org/repo", tmp_path / "one")
    with pytest.raises(FileNotFoundError, match=rf"'org/repo@{COMMIT}' needs a config\.json"):
        hub.load("org/repo")


def test_repositories_that_say_no(server):
    with pytest.raises(ValueError, match="There is no hub repository 'org/none', or it is private"):
        hub.load("org/none")
    with pytest.raises(ValueError, match=r"Near names: vit_small_patch16_224\.augreg_in1k"):
        hub.load("timm/vit_smal_patch16_224.augreg_in1k")
    server.refused["org/gated"] = (403, "GatedRepo")
    with pytest.raises(PermissionError, match="asks for its terms to be accepted"):
        hub.load("org/gated")
    server.refused["org/forbidden"] = (403, "")
    with pytest.raises(ConnectionError, match="pass a folder"):
        hub.load("org/forbidden")
    server.refused["org/down"] = (503, "")
    with pytest.raises(ConnectionError, match="pass a folder"):
        hub.load("org/down")


def test_no_network(cache, monkeypatch):
    use_endpoint(monkeypatch, "http://127.0.0.1:9")  # the port of a service that nobody runs
    with pytest.raises(ConnectionError, match="the hub cannot be reached"):
        hub.load("org/repo")
    huggingface_hub.close_session()
