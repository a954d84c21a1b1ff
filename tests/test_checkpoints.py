import json
import shutil
from pathlib import Path

import pytest

from vilasr.checkpoints import _kv_bytes, inspect_checkpoint
from vilasr.tasks import DataError

MIB = 1 << 20


def safetensors(path: Path, data: bytes = b"weights", **header) -> None:
    """A file in the safetensors layout: length of the header, header, data."""
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    text = json.dumps(header or {"__metadata__": {"format": "pt"}, "w": tensor}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text('{"text_config": {"max_position_embeddings": 4096}}')
    (folder / "tokenizer.json").write_text("{}")
    safetensors(folder / "model.safetensors")
    return folder


def shard(folder: Path, *names: str) -> None:
    (folder / "model.safetensors").unlink()
    for name in names:
        safetensors(folder / name)
    weights = {f"layer.{i}": name for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def test_a_whole_folder(folder):
    checkpoint = inspect_checkpoint(folder)
    assert (checkpoint.path, checkpoint.context) == (folder, 4096)
    assert len(checkpoint.fingerprint) == 16


def test_older_layouts(folder):
    """The context at the top of the config, the vocabulary in vocab.json."""
    (folder / "config.json").write_text('{"max_position_embeddings": 77}')
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert inspect_checkpoint(folder).context == 77


def test_a_missing_folder_says_how_to_name_one(tmp_path):
    with pytest.raises(DataError, match=r"no such checkpoint folder.*CKPT"):
        inspect_checkpoint(tmp_path / "nothing")


def test_a_file_is_no_folder(folder):
    with pytest.raises(DataError, match="no such checkpoint folder"):
        inspect_checkpoint(folder / "config.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"config\.json: missing; is this a Hugging Face model folder"),
        ("tokenizer.json", r"no tokenizer\.json; copy the tokenizer"),
        ("model.safetensors", r"model\.safetensors: missing"),
    ],
)
def test_a_missing_file_is_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(DataError, match=message):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json: unreadable"),
        ("[1]", "must hold a JSON object"),
        ("{}", "'max_position_embeddings' must be a whole number"),
        ('{"max_position_embeddings": "long"}', "'max_position_embeddings' must be a whole number"),
        ('{"text_config": 3}', "'max_position_embeddings' must be a whole number"),
    ],
)
def test_a_bad_config(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(DataError, match=message):
        inspect_checkpoint(folder)


def test_a_config_that_is_not_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"config\.json: unreadable"):
        inspect_checkpoint(folder)


def test_truncated_weights_at_every_length(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"model\.safetensors: .*copy the file again"):
            inspect_checkpoint(folder)


def test_too_much_data_is_noticed(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="bytes where its header says"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        (9).to_bytes(8, "little") + b"[1, 2, 3]",
        (2**62).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"\xff\xff\xff\xff",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
    ],
    ids=["empty", "html", "lfs pointer", "list", "endless header", "not text", "deep"],
)
def test_junk_is_no_safetensors_file(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="not a safetensors file"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize("offsets", [[], [0], [0, "x"], [0, None], {}, 3, None])
def test_junk_offsets(folder, offsets):
    safetensors(folder / "model.safetensors", w={"data_offsets": offsets})
    with pytest.raises(DataError, match="not a safetensors file"):
        inspect_checkpoint(folder)


def test_shards(folder):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    shard(folder, *names)
    inspect_checkpoint(folder)
    (folder / names[1]).write_bytes(b"")
    with pytest.raises(DataError, match="00002-of-00002"):
        inspect_checkpoint(folder)
    (folder / names[1]).unlink()
    with pytest.raises(DataError, match=r"00002-of-00002\.safetensors: missing"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    "index", ["{", "{}", "[]", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": 3}}']
)
def test_a_bad_index(folder, index):
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(DataError, match=r"model\.safetensors\.index\.json: "):
        inspect_checkpoint(folder)


def test_the_fingerprint_is_of_the_content_not_the_place(folder, tmp_path):
    before = inspect_checkpoint(folder).fingerprint
    assert inspect_checkpoint(folder).fingerprint == before
    shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "moved")
    assert inspect_checkpoint(tmp_path / "copy").fingerprint == before
    assert inspect_checkpoint(tmp_path / "moved").fingerprint == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_fingerprint_notices_other_content(folder, name):
    before = inspect_checkpoint(folder).fingerprint
    if name == "model.safetensors":
        safetensors(folder / name, b"Weights")  # of the same length
    else:
        (folder / name).write_text((folder / name).read_text() + " ")
    assert inspect_checkpoint(folder).fingerprint != before


def test_the_fingerprint_notices_a_further_file(folder):
    before = inspect_checkpoint(folder).fingerprint
    (folder / "vilasr_profile.yaml").write_text("name: other")
    assert inspect_checkpoint(folder).fingerprint != before


def test_the_fingerprint_sees_training_that_leaves_both_ends_of_a_large_file(folder):
    """As with a frozen vision tower, whose weights may stand at an end."""
    frozen, trained = bytes(2 * MIB), [bytes([value]) * (4 * MIB) for value in (1, 2)]
    found = set()
    for middle in trained:
        safetensors(folder / "model.safetensors", frozen + middle + frozen)
        found.add(inspect_checkpoint(folder).fingerprint)
    assert len(found) == 2


def test_a_folder_named_like_a_file_does_no_harm(folder):
    before = inspect_checkpoint(folder).fingerprint
    (folder / "runs.json").mkdir()
    (folder / "dangling.json").symlink_to("nowhere")
    assert inspect_checkpoint(folder).fingerprint == before


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Qwen2.5-VL-7B: 28 layers, 4 key-value heads of 128: 2 * 2 * 28 * 4 * 128
        ({"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}, 57344),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 128}, 1024),
        ({"num_hidden_layers": 2, "num_attention_heads": 0, "hidden_size": 128}, 0),
        ({}, 0),
    ],
)
def test_the_cache_of_one_token(config, expected):
    assert _kv_bytes(config) == expected
