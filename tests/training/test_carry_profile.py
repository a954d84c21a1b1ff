import pytest
import yaml

from vilasr.prompts import PROFILE_NAME, default_profile, load_profile
from vilasr.tasks import DataError
from vilasr.training.carry_profile import carry_profile, main
from vilasr.training.recipe import read_config


@pytest.fixture
def folders(tmp_path):
    for name in ("data", "model", "out"):
        (tmp_path / name).mkdir()
    keys = {"dataset_dir": "data", "model_name_or_path": "model", "output_dir": "out"}
    config = {key: str(tmp_path / name) for key, name in keys.items()}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    return tmp_path, config


def profile_text(name: str) -> str:
    return default_profile().source.replace("name: vilasr-1", f"name: {name}")


def test_the_datas_profile_comes_first_then_the_models_then_ours(folders, caplog):
    root, config = folders
    assert load_profile(carry_profile(config)).name == "vilasr-1"
    assert "the default profile is saved" in caplog.text
    (root / "model" / PROFILE_NAME).write_text(profile_text("of-model"))
    assert load_profile(carry_profile(config)).name == "of-model"
    (root / "data" / PROFILE_NAME).write_text(profile_text("of-data"))
    assert load_profile(carry_profile(config)).name == "of-data"
    assert "differs from the model's own" in caplog.text


def test_overrides_and_errors(folders, capsys, caplog):
    root, config = folders
    other = root / "other"
    other.mkdir()
    assert main([str(root / "c.yaml"), f"output_dir={other}"]) == 0
    assert (other / PROFILE_NAME).is_file()
    assert main([str(root / "c.yaml"), "output_dir=/none/there"]) == 1
    assert "the training did not finish" in caplog.text
    assert main([]) == 2
    with pytest.raises(DataError, match="key=value"):
        read_config(root / "c.yaml", ["nonsense"])
    with pytest.raises(DataError, match="is not YAML"):
        read_config(root / "c.yaml", ["x=["])
    with pytest.raises(DataError, match=r"no\.yaml: cannot be read"):
        read_config(root / "no.yaml", [])
    with pytest.raises(DataError, match="'output_dir' must be given"):
        carry_profile({**config, "output_dir": None})
