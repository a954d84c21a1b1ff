from pathlib import Path

import pytest

from vilasr.tasks import DataError
from vilasr.training.recipe import ROOT, read_config


def test_paths_start_at_the_repository_or_where_one_stands(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(
        "model_name_or_path: Qwen/Qwen2.5-VL-7B-Instruct\ndataset_dir: ViLaSR-data\n"
        "deepspeed: train/deepspeed_zero3.json\n"
    )
    monkeypatch.chdir(tmp_path)
    config = read_config(path)
    assert config["model_name_or_path"] == "Qwen/Qwen2.5-VL-7B-Instruct"  # on the hub
    assert config["dataset_dir"] == str(ROOT / "ViLaSR-data")
    assert Path(config["deepspeed"]).is_file()
    (tmp_path / "mine" / "model").mkdir(parents=True)
    overrides = ["dataset_dir=data here", "model_name_or_path=mine/model", "learning_rate=1e-5", "deepspeed=null"]
    config = read_config(path, overrides)
    assert config["dataset_dir"] == str(tmp_path / "data here")
    assert config["model_name_or_path"] == str(tmp_path / "mine" / "model")
    assert config["deepspeed"] is None
    assert config["learning_rate"] == 1e-5, "YAML 1.1 alone would take it for a text"
    assert read_config(path, ["model_name_or_path=./absent/model"])["model_name_or_path"] == str(
        tmp_path / "absent/model"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("2.0e-3", 2e-3), ("5E3", 5000.0), ("-.5", -0.5), ("3.", 3.0), ("10", 10), ("no", "no"),
        ("off", "off"), ("true", True), ("False", False), ("null", None), ("1e", "1e"), ("e5", "e5"), ("a,b", "a,b"),
        ("1:30", "1:30"),
    ],
)  # fmt: skip
def test_values_are_read_as_llamafactory_reads_them(tmp_path, text, value):
    (tmp_path / "c.yaml").write_text(f"in_file: {text}\n")
    found = read_config(tmp_path / "c.yaml", [f"given={text}"])
    assert found == {"in_file": value, "given": value}
    assert type(found["given"]) is type(value)


@pytest.mark.parametrize(
    ("overrides", "message"), [(["nonsense"], "key=value"), (["=1"], "key=value"), (["x=["], "is not YAML")]
)
def test_overrides_that_cannot_be_read(tmp_path, overrides, message):
    path = tmp_path / "c.yaml"
    path.write_text("a: 1")
    with pytest.raises(DataError, match=message):
        read_config(path, overrides)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no\.yaml: cannot be read"):
        read_config(tmp_path / "no.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(DataError, match="mapping"):
        read_config(tmp_path / "list.yaml")
