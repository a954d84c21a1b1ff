import pytest

from tests.viewer.cases import answered_rows, write_rows
from vilasr.viewer import collect
from vilasr.viewer.search import search_texts


def words_of(told, number):
    return [told["lines"][line] for line in told["texts"][told["of"][number]]]


def test_questions_options_and_what_tells_prompts_apart_are_there(tmp_path):
    rows = answered_rows(tmp_path / "maze", {"a": "AB"}, question="Where is the lamp?\n  Look twice.")
    rows += answered_rows(tmp_path / "maze", {"b": "B"}, options=("kitchen", "hall"))
    for row in rows:
        row["conversation"][0]["content"] = "The same instructions\nfor all"
    rows[-1]["conversation"][1]["content"] = "Image 1: 33 wide"
    told = search_texts(collect([write_rows(tmp_path / "maze", rows)]).entries)
    assert told["of"] == [0, 0, 1], "samples share a text"
    assert {"Where is the lamp?", "Look twice.", "chair"} <= set(words_of(told, 0))
    assert {"kitchen", "Image 1: 33 wide"} <= set(words_of(told, 2))
    assert not [line for line in told["lines"] if "instructions" in line], "they would find everything"
    assert len(set(told["lines"])) == len(told["lines"])


def test_runs_share_texts(tmp_path):
    folders = []
    for name in "ab":
        folder = tmp_path / name / "maze"
        folders.append(write_rows(folder, answered_rows(folder, {"x": "B", "y": "B"})))
    told = search_texts(collect(folders).entries)
    assert told["of"][:2] == told["of"][2:]
    assert sum(line == "Which object is nearer to the door?" for line in told["lines"]) == 1


@pytest.mark.parametrize("conversation", [[5], "abc", [{"role": "user", "content": 5}], []])
def test_a_conversation_that_is_none_leaves_the_question(tmp_path, conversation):
    (row,) = answered_rows(tmp_path / "maze", {"a": "B"})
    told = search_texts(collect([write_rows(tmp_path / "maze", [row | {"conversation": conversation}])]).entries)
    assert "Which object is nearer to the door?" in words_of(told, 0)
