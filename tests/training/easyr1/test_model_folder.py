"""A checkpoint of transformers 5, as version 4 reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.golden import picture
from vilasr.tasks import DataError
from vilasr.training.easyr1.model_folder import as_version_4, config, image_limits, is_new, tokenizer

ROPE = {"mrope_section": [2, 3, 3], "rope_theta": 5e4, "rope_type": "default"}
NEW = {
    "config.json": {
        "architectures": ["Some"],
        "dtype": "bfloat16",
        "model_type": "qwen2_5_vl",
        "text_config": {"dtype": "bfloat16", "hidden_size": 64, "rope_parameters": ROPE},
        "vision_config": {"depth": 2, "dtype": "bfloat16"},
    },
    "tokenizer_config.json": {"eos_token": "<e>", "extra_special_tokens": ["<a>", "<b>"]},
    "processor_config.json": {
        "processor_class": "Both",
        "image_processor": {"patch_size": 14, "size": {"shortest_edge": 3136, "longest_edge": 6272}},
        "video_processor": {"fps": 2, "size": {"shortest_edge": 1, "longest_edge": 2}},
    },
}
# As transformers 4 writes them: of one part, as Qwen2.5-VL was published, and of two.
OLD_FLAT = {
    "model_type": "qwen2_5_vl",
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
}
OLD = {"model_type": "qwen2_5_vl", "text_config": {"rope_theta": 1e6, "rope_scaling": {"type": "mrope"}}}


@pytest.fixture
def folder(tmp_path):
    """folder({file: object or text}) -> a checkpoint; its other files hold their names."""

    def make(files: dict[str, Any] = NEW) -> Path:
        path = tmp_path / "model"
        path.mkdir()
        for name, content in files.items():
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        for name in ("model.safetensors", "tokenizer.json", "vilasr_profile.yaml"):
            (path / name).write_text(name)
        return path

    return make


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_files_are_translated_or_linked(folder, tmp_path):
    model = folder()
    before = content(model)
    made = as_version_4(model, tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b"
    translated = {"config.json", "tokenizer_config.json", "preprocessor_config.json", "video_preprocessor_config.json"}
    linked = {"model.safetensors", "tokenizer.json", "vilasr_profile.yaml"}
    assert {file.name for file in made.iterdir()} == translated | linked, "version 4 must not see processor_config.json"
    assert {file.name for file in made.iterdir() if file.is_symlink()} == linked
    assert all((made / name).read_text() == name for name in linked)
    assert all((made / name).readlink().is_absolute() for name in linked)
    assert content(model) == before
    assert not is_new(made)
    assert is_new(model)


def test_values(folder, tmp_path):
    made = as_version_4(folder(), tmp_path / "made")
    assert read(made / "config.json") == {
        "architectures": ["Some"],
        "model_type": "qwen2_5_vl",
        "torch_dtype": "bfloat16",
        "text_config": {
            "architectures": ["Some"],
            "hidden_size": 64,
            "rope_theta": 5e4,
            "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "mrope"},
            "torch_dtype": "bfloat16",
        },
        "vision_config": {"depth": 2, "torch_dtype": "bfloat16"},
    }
    assert read(made / "tokenizer_config.json") == {
        "eos_token": "<e>",
        "additional_special_tokens": ["<a>", "<b>"],
    }
    assert read(made / "preprocessor_config.json") == {
        "patch_size": 14,
        "size": {"shortest_edge": 3136, "longest_edge": 6272},
        "min_pixels": 3136,
        "max_pixels": 6272,
        "processor_class": "Both",
    }
    assert read(made / "video_preprocessor_config.json") == {
        "fps": 2,
        "size": {"shortest_edge": 1, "longest_edge": 2},
        "min_pixels": 1,
        "max_pixels": 2,
        "processor_class": "Both",
    }


def test_other_configurations():
    """Of one part; without an image's sections; and what was given is left as it was."""
    given = {"hidden_size": 64, "dtype": "float32", "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}
    copy = json.loads(json.dumps(given))
    assert config(given, Path("config.json")) == {
        "hidden_size": 64,
        "torch_dtype": "float32",
        "rope_theta": 1e4,
        "rope_scaling": {"rope_type": "default"},
    }
    assert given == copy
    new = json.loads(json.dumps(NEW["config.json"]))
    config(new, Path("config.json"))
    assert new == NEW["config.json"]


@pytest.mark.parametrize("given", [{"extra_special_tokens": {"image_token": "<i>"}}, {"eos_token": "<e>"}])
def test_a_tokenizer_that_is_as_it_was(given):
    """Names of special tokens, an object, are in both versions."""
    assert tokenizer(given) == given


@pytest.mark.parametrize("old", [OLD_FLAT, OLD], ids=["one part", "two parts"])
def test_a_folder_of_version_4_is_used_itself(folder, tmp_path, old):
    model = folder({"config.json": old, "preprocessor_config.json": {"patch_size": 14}})
    before = content(model)
    assert not is_new(model)
    assert as_version_4(model, tmp_path / "made") == model
    assert content(model) == before
    assert not (tmp_path / "made").exists()


def test_made_again_over_an_old_one(folder, tmp_path):
    """Of a checkpoint with other files, whose weights are gone by now."""
    model, made = folder(), tmp_path / "made"
    first = content(as_version_4(model, made))
    assert content(as_version_4(model, made)) == first
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / "processor_config.json").unlink()
    changed = json.loads(json.dumps(NEW["config.json"]))
    changed["text_config"]["rope_parameters"]["rope_theta"] = 7.0
    (model / "config.json").write_text(json.dumps(changed))
    as_version_4(model, made)
    names = {"config.json", "tokenizer_config.json", "model-00001-of-00001.safetensors"}
    assert {file.name for file in made.iterdir()} == {*names, "tokenizer.json", "vilasr_profile.yaml"}
    assert read(made / "config.json")["text_config"]["rope_theta"] == 7.0


def broken(name: str, **changes: Any) -> dict[str, Any]:
    return {**NEW, name: {**NEW[name], **changes}}


@pytest.mark.parametrize(
    ("files", "file", "message"),
    [
        ({}, "config.json", "cannot be read"),
        ({"config.json": "{"}, "config.json", "cannot be read"),
        ({"config.json": "[]"}, "config.json", "must hold an object"),
        ({"config.json": NEW["config.json"]}, "tokenizer_config.json", "cannot be read"),
        (broken("config.json", text_config={"rope_parameters": {}}), "config.json", "'rope_parameters' must be"),
        (broken("config.json", text_config={"rope_parameters": 3}), "config.json", "'rope_parameters' must be"),
        (broken("processor_config.json", image_processor=None), "processor_config.json", "'image_processor' must be"),
        (broken("processor_config.json", video_processor=[]), "processor_config.json", "'video_processor' must be"),
    ],
)
def test_errors_name_the_file(folder, tmp_path, files, file, message):
    """And nothing is made, nor is what was made before lost."""
    model, made = folder(files), tmp_path / "made"
    made.mkdir()
    (made / "old").write_text("old")
    with pytest.raises(DataError) as error:
        as_version_4(model, made)
    assert str(error.value).startswith(f"{model / file}: {message}")
    assert content(made) == {"old": b"old"}


# Run by both versions: ids and logits of a prompt with an image.
SEEN = """
import json, sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, __version__
folder, out, *images = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
parts = [{"type": "image"}, {"type": "text", "text": "Which one? <|im_start|>12 Tür"}]
text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
seen = []
for image in images:
    inputs = processor(images=[Image.open(image)], text=[text], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0].tolist()
    seen.append([inputs["input_ids"][0].tolist(), inputs["image_grid_thw"].tolist(), logits])
with open(out, "w") as file:
    json.dump([__version__, sorted(processor.tokenizer.all_special_tokens), seen], file)
"""


@pytest.mark.engine
def test_both_versions_see_the_same(nano, tmp_path):
    """Of a checkpoint whose rotary embedding and image sizes are not what a version would take by itself."""
    other = os.environ.get("EASYR1_PYTHON")
    if not other:
        pytest.skip("EASYR1_PYTHON names no interpreter of the environment of setup.sh --easyr1")
    new = tmp_path / "new"
    shutil.copytree(nano, new)
    values = read(new / "config.json")
    values["text_config"]["rope_parameters"]["rope_theta"] = 50.0
    (new / "config.json").write_text(json.dumps(values))
    values = read(new / "processor_config.json")
    values["image_processor"]["size"] = {"shortest_edge": 3136, "longest_edge": 112 * 84}
    (new / "processor_config.json").write_text(json.dumps(values))
    old = as_version_4(new, tmp_path / "old")
    assert old != new
    images = [tmp_path / "small.png", tmp_path / "large.png"]
    picture(112, 84, 1).save(images[0])
    picture(168, 168, 1).save(images[1])
    interpreters = {new: sys.executable, old: other}
    running = [
        subprocess.Popen([python, "-c", SEEN, folder, folder.with_suffix(".json"), *images], cwd=ROOT)
        for folder, python in interpreters.items()
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    version, special, seen = read(new.with_suffix(".json"))
    version_4, special_4, seen_4 = read(old.with_suffix(".json"))
    assert (version[0], version_4[0]) == ("5", "4")
    assert special == special_4
    assert [grid for _, grid, _ in seen] == [[[1, 6, 8]], [[1, 6, 6]]], "the large one is made small"
    for (ids, grid, logits), (ids_4, grid_4, logits_4) in zip(seen, seen_4, strict=True):
        assert (ids, grid) == (ids_4, grid_4)
        assert np.abs(np.array(logits) - np.array(logits_4)).max() < 1e-4


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (
            {"processor_config.json": {"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 50176}}}},
            (3136, 50176),
        ),
        ({"preprocessor_config.json": {"min_pixels": 784, "max_pixels": 9000}}, (784, 9000)),
        ({"preprocessor_config.json": {}}, (0, 1 << 62)),
    ],
)
def test_what_images_the_processor_leaves_as_they_are(tmp_path, files, limits):
    for name, values in files.items():
        (tmp_path / name).write_text(json.dumps(values))
    assert image_limits(tmp_path) == limits
