"""`load`: files that are not as they should be."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from timm_checkpoints import write_checkpoint

from convert_weights.table import ConversionError
from dave_jax.models import hub


def test_missing_files(tmp_path):
    for name in (tmp_path / "none", "./none", "none.safetensors", "some/weights.pth", "~/no/such/folder"):
        with pytest.raises(FileNotFoundError, match="There is no file or folder"):
            hub.load(name)
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors; it does not\. Files there: not known"):
        hub.load(tmp_path)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"Files there: \['readme\.txt'\]"):
        hub.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors"):
        hub.load(tmp_path / "readme.txt")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "deit.pt"])
def test_a_pickle_is_never_opened(name, tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match="never unpickles") as error:
            hub.load(place)
        assert repr(name) in str(error.value) and "save_file" in str(error.value)


def test_a_folder_does_not_say_that_an_archive_is_its_model(tmp_path):
    (tmp_path / "vit.npz").touch()
    with pytest.raises(ValueError, match=r"holds 'vit\.npz' and no safetensors.*load the file itself"):
        hub.load(tmp_path)


def test_a_file_alone_lacks_its_config(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r'needs a config\.json beside its weights.*"architecture"'):
        hub.load(tmp_path / "model.safetensors")


def test_config_json_that_is_no_json_object(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' must be JSON"):
        hub.load(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config\.json' must be a JSON object; it is a list"):
        hub.load(tmp_path)


HEADER_LONGER_THAN_THE_FILE = (10**9).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", HEADER_LONGER_THAN_THE_FILE, None]
)
def test_truncated_weights(content, tmp_path):
    write_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ValueError, match=r"must be a whole safetensors file; .*cut off"):
        hub.load(tmp_path)


def test_arrays_of_another_type(tmp_path):
    write_checkpoint(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file(arrays | {"norm.weight": np.ones(arrays["norm.weight"].shape, np.int64)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"norm\.weight holds int64, not floating-point"):
        hub.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_out_of_the_folder(name, tmp_path):
    write_checkpoint(tmp_path / "secret")
    write_checkpoint(tmp_path / "downloaded")
    (tmp_path / "downloaded" / name).unlink()
    (tmp_path / "downloaded" / name).symlink_to(tmp_path / "secret" / name)
    with pytest.raises(ValueError, match="a link out of its folder"):
        hub.load(tmp_path / "downloaded")
    (tmp_path / "downloaded" / name).unlink()
    (tmp_path / "downloaded" / f"other.{name}").write_bytes((tmp_path / "secret" / name).read_bytes())
    (tmp_path / "downloaded" / name).symlink_to(f"other.{name}")  # within the folder
    hub.load(tmp_path / "downloaded")


def test_a_folder_of_the_hubs_cache(tmp_path):
    write_checkpoint(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    hub.load(snapshot)


def test_renamed_keys(tmp_path):
    write_checkpoint(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file({key.replace("blocks.", "layers."): array for key, array in arrays.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match=r"(?s)missing blocks\.0\.norm1\.weight.*leftover layers\.1\.norm2\.weight") as error:
        hub.load(tmp_path)
    assert repr(str(tmp_path)) in str(error.value)


def test_a_head_of_another_size_than_the_config_says(tmp_path):
    write_checkpoint(tmp_path, num_classes=5)
    with pytest.raises(ConversionError, match=r"head\.weight has shape \(3, 12\).*head/kernel needs \(12, 5\)"):
        hub.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"architecture": "vision_transformer", "model_args": {"depth": -1}}',
        '{"architecture": "vision_transformer", "model_args": {"embed_dim": 9223372036854775808, "num_heads": 2}}',
        '{"architecture": "vision_transformer", "pretrained_cfg": {"std": [1e-300, 1, 1]}}',
        '{"architecture": "vision_transformer", "pretrained_cfg": {"input_size": [3, 16]}}',
        '{"architecture": "resnet", "model_args": {"layers": [1], "channels": [4, 6]}}',
        '{"architecture": "vision_transformer", "model_args": {"norm_layer": "LayerNorm(eps=1e300)"}}',
        "[" * 100_000,
    ],
    ids=range(7),
)
def test_an_error_about_a_configuration_names_the_file(content, tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json'"):
        hub.load(tmp_path)


def test_an_index_without_files_is_named(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "part.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ValueError, match=r"index\.json' must name safetensors files beside it; it names \[\]"):
        hub.load(tmp_path)
