import pytest

from vilasr.training.secret_values import has_credentials, secret_name


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("WANDB_API_KEY", "DB_PASSWORD", "MY_SECRET", "HF_TOKEN", "HF_TOKEN_PATH")),
        *((name, False) for name in ("HF_HOME", "OMP_NUM_THREADS", "VLLM_LOGGING_LEVEL")),
    ],
)
def test_what_looks_like_a_secret(name, secret):
    assert secret_name(name) is secret


@pytest.mark.parametrize(
    ("value", "has"),
    [("http://me:word@proxy:80", True), ("x https://me@host/a", True), ("http://host/a@b", False), ("a@b", False)],
)
def test_credentials_in_a_url(value, has):
    assert has_credentials(value) is has
