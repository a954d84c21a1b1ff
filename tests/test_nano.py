import json

import pytest

from tests.conftest import run_tool
from vilasr.nano import CONTROL_TOKENS, NanoSize, corpus_texts
from vilasr.prompts import PROFILE_NAME, load_profile
from vilasr.tasks import DataError


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 100}, "multiple of 16"),
        ({"hidden": 96, "heads": 4}, "multiple of 16"),
        ({"heads": 6, "kv_heads": 4}, "multiple of kv_heads"),
        ({"vocab": 200}, "vocab must be above"),
        ({"vocab": 500, "number_tokens": 300}, "vocab must be above 570"),
        ({"number_tokens": -1}, "number_tokens"),
    ],
)
def test_shapes_that_cannot_be(sizes, message):
    with pytest.raises(ValueError, match=message):
        NanoSize(**sizes)


@pytest.mark.parametrize("content", ["{", "[1]", '[{"conversations": [{"role": "user"}]}]'])
def test_a_corpus_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"c\.json: not a ShareGPT file"):
        list(corpus_texts(path))


@pytest.mark.engine
def test_transformers_loads_it_and_the_vocabulary_is_the_tokenizers(nano):
    from transformers import AutoConfig, AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model, loading = Qwen2_5_VLForConditionalGeneration.from_pretrained(nano, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(nano)
    tokenizer = processor.tokenizer
    assert len(tokenizer) == AutoConfig.from_pretrained(nano).text_config.vocab_size
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 10e6
    for token in CONTROL_TOKENS:
        assert tokenizer.encode(token) == [tokenizer.convert_tokens_to_ids(token)]
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids(t) for t in CONTROL_TOKENS[2::-2]]
    assert load_profile(nano / PROFILE_NAME).name == "vilasr-nano-1"


@pytest.mark.engine
def test_numbers_are_tokens_where_asked_and_text_survives(tmp_path):
    from transformers import AutoTokenizer

    from vilasr.nano import build_tokenizer

    texts = ["go (98, 126), then 3 right", "and 112 wide"] * 9 + ["1234 is long", "rare: 77"]
    build_tokenizer(texts, 400, number_tokens=4).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 400

    def cut(text: str) -> list[str]:
        return [tokenizer.decode([token]) for token in tokenizer(text, add_special_tokens=False).input_ids]

    assert {" 126", "98", " 3", " 112"} <= set(cut("(98, 126) 3 112"))
    assert cut("77") == ["7", "7"]
    for text in (*texts, "1126 98126 1234567", "[98, 126]x98", " 126 98", "a\n98 3"):
        assert "".join(cut(text)) == text
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.engine
def test_any_text_survives_the_tokenizer(nano):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano)
    for text in ("plain words", "Tür 门 👍\n\n  x", "[12, 345]", "\x00\x7f\u2028"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.engine
def test_the_same_seed_gives_the_same_weights_and_no_folder_is_overwritten(tmp_path, nano):
    corpus = tmp_path / "c.json"
    corpus.write_text(json.dumps([{"conversations": [{"role": "user", "content": "go left 1 then down 2"}]}]))
    tiny = ("--hidden", 64, "--heads", 4, "--text-layers", 1, "--vision-layers", 1, "--vocab", 300)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = run_tool("tools/make_nano.py", "--out", tmp_path / name, "--corpus", corpus, "--seed", seed, *tiny)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    again = run_tool("tools/make_nano.py", "--out", tmp_path / "a", "--corpus", corpus, *tiny)
    assert again.returncode == 2
    assert "holds a model already" in again.stderr
