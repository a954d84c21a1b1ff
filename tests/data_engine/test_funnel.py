import builtins
import json
from collections import Counter
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data_engine.cases import judged
from vilasr.data_engine.filters import Filter
from vilasr.data_engine.funnel import Funnel, Row, table
from vilasr.data_engine.funnel_plot import plot

NAMES = ("parsed", "correct", "well_formed")
FILTERS = tuple(Filter(name, bool, f"says {name}") for name in NAMES)
# Questions 1 and 2 of a, 1 (another question) of b; b's second episode comes under another type.
EPISODES = [
    judged("1", 0, "a", "x", dropped="parsed"),
    judged("1", 1, "a", "x", dropped="correct"),
    judged("1", 2, "a", "x"),
    judged("1", 3, "a", "x"),
    judged("2", 0, "a", "y", dropped="well_formed"),
    judged("1", 0, "b", "x", dropped="parsed"),
    judged("1", 1, "b", "y"),
]


def small() -> Funnel:
    funnel = Funnel(FILTERS)
    for one in EPISODES:
        funnel.add(one)
    funnel.add_sampled("9", "b")
    funnel.add_selection("per_question", [EPISODES[2], EPISODES[6]], "at most 1 a question")
    funnel.add_selection("kept", [EPISODES[6]])
    return funnel


def test_every_stage_by_hand():
    funnel = small()
    assert funnel.stages == ("sampled", *NAMES, "per_question", "kept")
    assert funnel.overall() == [
        Row("sampled", 8, 4, 1.0, 1.0),
        Row("parsed", 5, 3, 5 / 8, 5 / 8),
        Row("correct", 4, 3, 4 / 8, 4 / 5),
        Row("well_formed", 3, 2, 3 / 8, 3 / 4),
        Row("per_question", 2, 2, 2 / 8, 2 / 3),
        Row("kept", 1, 1, 1 / 8, 1 / 2),
    ]
    by_source = {name: [(row.episodes, row.questions) for row in rows] for name, rows in funnel.by_source().items()}
    assert by_source == {
        "a": [(5, 2), (4, 2), (3, 2), (2, 1), (1, 1), (0, 0)],
        "b": [(3, 2), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)],
    }
    by_type = {name: [(row.episodes, row.questions) for row in rows] for name, rows in funnel.by_type().items()}
    assert by_type == {
        "": [(1, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)],
        "x": [(5, 2), (3, 1), (2, 1), (2, 1), (1, 1), (0, 0)],
        "y": [(2, 2), (2, 2), (2, 2), (1, 1), (1, 1), (1, 1)],
    }
    assert funnel.by_type()[""][2] == Row("correct", 0, 0, 0.0, None)


def test_as_json():
    written = json.loads(json.dumps(small().to_json(), allow_nan=False))
    assert written["stages"][0] == {"name": "sampled", "says": "every episode"}
    assert written["stages"][2] == {"name": "correct", "says": "says correct"}
    assert written["stages"][4] == {"name": "per_question", "says": "at most 1 a question"}
    assert written["overall"][4] == {
        "stage": "per_question",
        "episodes": 2,
        "questions": 2,
        "of_sampled": 0.25,
        "of_before": 0.666667,
    }
    assert written["by_source"]["a"][5] == {
        "stage": "kept",
        "episodes": 0,
        "questions": 0,
        "of_sampled": 0.0,
        "of_before": 0.0,
    }
    assert list(written["by_type"]) == ["", "x", "y"]


episodes = st.builds(
    judged,
    id=st.sampled_from("123"),
    sample=st.integers(0, 5),
    source=st.sampled_from("ab"),
    type=st.sampled_from("xyz"),
    dropped=st.sampled_from([None, *NAMES]),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(episodes, max_size=30), st.integers(0, 30))
def test_sums_add_up_and_stages_agree_with_a_plain_count(items, cut):
    funnel = Funnel(FILTERS)
    for one in items:
        funnel.add(one)
    kept = [one for one in items if one.dropped is None]
    funnel.add_selection("kept", kept[:cut])
    passed = {"sampled": items}
    for name in NAMES:
        passed[name] = [one for one in list(passed.values())[-1] if one.dropped != name]
    passed["kept"] = kept[:cut]
    for row in funnel.overall():
        assert row.episodes == len(passed[row.stage])
        assert row.questions == len({(one.source, one.id) for one in passed[row.stage]})
    for name, rows in funnel.by_type().items():
        for row in rows:
            assert row.questions == len({(one.source, one.id) for one in passed[row.stage] if one.type == name})
    for groups in (funnel.by_source(), funnel.by_type()):
        for number, row in enumerate(funnel.overall()):
            assert sum(rows[number].episodes for rows in groups.values()) == row.episodes
    counts = [row.episodes for row in funnel.overall()]
    assert counts == sorted(counts, reverse=True)
    by_source = funnel.by_source().values()
    assert sum(rows[-1].questions for rows in by_source) == funnel.overall()[-1].questions


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="filters: 'sampled' is the name of the first stage"):
        Funnel([Filter("sampled", bool, "")])
    with pytest.raises(ValueError, match="filters: parsed: used more than once"):
        Funnel([*FILTERS, FILTERS[0]])
    funnel = Funnel(FILTERS)
    for wrong in ("sampled", "reflective"):
        with pytest.raises(ValueError, match=f"item q: dropped by '{wrong}', which is none of the filters"):
            funnel.add(judged(dropped=wrong))
    assert funnel.overall()[0].episodes == 0
    funnel.add(judged())
    with pytest.raises(ValueError, match="selection 'kept': keeps 2 of s t, of only 1 before it"):
        funnel.add_selection("kept", [judged(), judged()])
    with pytest.raises(ValueError, match="selection 'parsed': the funnel has a stage of that name"):
        funnel.add_selection("parsed", [])
    funnel.add_selection("kept", [])
    with pytest.raises(ValueError, match="keeps 1 of s t, of only 0 before it"):
        funnel.add_selection("more", [judged()])
    with pytest.raises(ValueError, match="item q: episodes are added before selections"):
        funnel.add(judged())
    assert [row.episodes for row in funnel.overall()] == [1, 1, 1, 1, 0]


TABLE = """\
 stage          episodes questions of sampled of before
  sampled              8         4      100.0     100.0   every episode
  parsed               5         3       62.5      62.5   says parsed
  correct              4         3       50.0      80.0   says correct
  well_formed          3         2       37.5      75.0   says well_formed
  per_question         2         2       25.0      66.7   at most 1 a question
  kept                 1         1       12.5      50.0
 source sampled  parsed correct well_formed per_question    kept through
  a           5       4       3           2            1       0     0.0
  b           3       1       1           1            1       1    33.3
 type sampled  parsed correct well_formed per_question    kept through
  -         1       0       0           0            0       0     0.0
  x         5       3       2           2            1       0     0.0
  y         2       2       2           1            1       1    50.0"""


def test_as_text():
    assert table(small()) == TABLE
    empty = table(Funnel(FILTERS)).splitlines()
    assert empty[1] == "  sampled             0         0          -         -   every episode"
    assert empty[-2:] == [line.rstrip() for line in empty[-2:]]


def test_a_picture_has_all_numbers_and_is_always_the_same(tmp_path):
    pytest.importorskip("matplotlib")
    first = plot(small(), tmp_path / "one" / "funnel.v1")
    assert [path.name for path in first] == ["funnel.v1.png", "funnel.v1.svg"]
    second = plot(small(), tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    text = [element.text for element in ElementTree.fromstring(first[1].read_text()).iter() if element.text]
    shown = Counter(line.strip() for line in text)
    assert shown["4  (50.0 %, 3 questions)"] == 1
    assert {"all episodes", "a", "b", "well_formed", "kept"} <= set(shown)
    assert shown["5"] == 1, "the episodes of a"
    assert "date" not in first[1].read_text().lower()
    assert first[0].read_bytes().startswith(b"\x89PNG")


def test_one_source_needs_no_picture_of_its_own_and_odd_names_are_shown(tmp_path):
    pytest.importorskip("matplotlib")
    funnel = Funnel(FILTERS)
    svg = plot(funnel, tmp_path / "empty")[1].read_text()
    assert "0  (0.0 %, 0 questions)" in svg
    funnel.add(judged(source="only"))
    assert ">only<" not in plot(funnel, tmp_path / "one")[1].read_text()
    funnel.add(judged(source="a<b & $x\x01$" + "y" * 50))
    svg = plot(funnel, tmp_path / "two")[1].read_text()
    titles = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert any(text.startswith("a<b & $x?$yyy") and text.endswith("…") for text in titles)


def test_without_matplotlib_the_error_says_what_to_do(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"funnel: the picture needs matplotlib .* setup.sh"):
        plot(small(), tmp_path / "funnel")
    assert not list(tmp_path.iterdir())
