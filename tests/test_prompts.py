from pathlib import Path

import pytest
import yaml
from PIL import Image

from vilasr.drawing.scene import ImageNode
from vilasr.messages import Picture
from vilasr.prompts import (
    PROFILE_NAME,
    Profile,
    ProfileError,
    default_profile,
    load_profile,
    neutralise,
    option_letter,
    parse_profile,
    profile_for_checkpoint,
)

PROFILES = sorted((Path(__file__).resolve().parents[1] / "vilasr" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_loads(path):
    profile = load_profile(path)
    assert profile.image.factor == 28
    assert parse_profile(profile.source, "again") == profile


def changed(**changes) -> str:
    raw = yaml.safe_load(default_profile().source)
    for key, value in changes.items():
        target, names = raw, key.split("__")
        for name in names[:-1]:
            target = target[name]
        if value is None:
            del target[names[-1]]
        else:
            target[names[-1]] = value
    return yaml.safe_dump(raw)


EACH = {"single": "{captions}", "multi": "{captions}", "video": "{captions}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(question={"single": "{captions}"}), "key 'question.multi' is missing"),
        (changed(question=EACH | {"video": "{question}"}), "key 'question.video' must place {captions} exactly once"),
        (changed(question=EACH | {"audio": "{captions}"}), "unknown key 'question.audio'"),
        (changed(question=EACH | {"multi": 3}), "key 'question.multi' must be a text"),
        (changed(captions__multi="{image} {parent}"), "key 'captions.multi' has the unknown field {parent}"),
        (changed(captions__seperator=" "), "unknown key 'captions.seperator'"),
        (changed(feedback__turn="{lines}"), "key 'feedback.turn' must place {request} exactly once"),
        (changed(feedback__turn_several="{request}"), "key 'feedback.turn_several' must place {lines} exactly once"),
        (changed(feedback__drawn_several="{index}"), "key 'feedback.drawn_several' must place {image} exactly once"),
        (changed(feedback__drawn="{image} {index:z}"), "key 'feedback.drawn' is not a template"),
        (changed(feedback__turns="{lines} {request}"), "unknown key 'feedback.turns'"),
        (changed(notes=["a"]), "key 'notes' must be a mapping"),
        (changed(notes={"task": 3}), "key 'notes.task' must be a text"),
        (changed(notes={"task": "<image>"}), "key 'notes.task' must not hold control tokens"),
        (changed(remove="a"), "key 'remove' must be a list of texts"),
        (changed(remove=[""]), "key 'remove' must be a list of texts"),
        (changed(strip="no"), "key 'strip' must be true or false"),
        ("[" * 5000, "not YAML"),
        ("- a", "must hold a mapping"),
        ("a: [", "not YAML"),
        (changed(system=None), "key 'system' is missing"),
        (changed(extra=1), "unknown key 'extra'"),
        (changed(question=3), "key 'question' must be a text"),
        (changed(question="{captions} {wrong}"), "unknown field {wrong}"),
        (changed(question="{question}"), "must place {captions} exactly once"),
        (changed(question="{captions"), "is not a template"),
        (changed(captions__single="no image"), "must place {image} exactly once"),
        (changed(feedback__drawn=None), "key 'feedback.drawn' is missing"),
        (changed(suffix="text"), "key 'suffix' must be a mapping"),
        (changed(system="<|im_end|>"), "must not hold control tokens"),
        (changed(system="see <image>"), "must not hold control tokens"),
        (changed(coordinates="inches"), "key 'coordinates'"),
        (changed(policy="none"), "key 'policy' must be one of"),
        (changed(budget__calls=0), "key 'budget.calls' must be a positive whole number"),
        (changed(budget__turns=3), "unknown key 'budget.turns'"),
        (changed(image__max_pixels="big"), "key 'image.max_pixels'"),
    ],
)
def test_errors_name_file_and_key(text, message):
    with pytest.raises(ProfileError) as error:
        parse_profile(text, "my.yaml")
    assert str(error.value).startswith("my.yaml: ")
    assert message in str(error.value)


def test_a_checkpoint_brings_its_profile_or_a_warning(tmp_path, caplog):
    assert profile_for_checkpoint(tmp_path).name == default_profile().name
    assert "has no vilasr_profile.yaml" in caplog.text
    (tmp_path / PROFILE_NAME).write_text(changed(name="mine"))
    assert profile_for_checkpoint(tmp_path).name == "mine"


def test_missing_file(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|im_start|>", "<| im_start |>"),
        ("a<image>b<video>", "a< image >b< video >"),
        ("a < b | c > d <think>", "a < b | c > d <think>"),
        ("<|<|im_end|>|>", "<|<| im_end |>|>"),
    ],
)
def test_neutralise(text, expected):
    assert neutralise(text) == expected
    assert neutralise(expected) == expected


@pytest.mark.parametrize(
    ("option", "letter"),
    [("A. x", "A"), ("(B) x", "B"), ("C) x", "C"), ("D: x", "D"), ("A", None), ("Ab. x", None), ("a. x", None)],
)
def test_option_letter(option, letter):
    assert option_letter(option) == letter


def pictures(*sizes) -> list[Picture]:
    return [Picture(index, Image.new("RGB", size)) for index, size in enumerate(sizes, 1)]


def asked(profile: Profile, question="Where?", options=(), kind="single", sizes=((56, 28),), **names) -> str:
    return profile.question_message(question, options, "numerical", kind, pictures(*sizes), **names).text()


def test_the_system_text_takes_the_size_and_keeps_its_braces():
    profile = parse_profile(changed(system='{"x": 1} {{y}} up to ({width}, {height}), {other}'), "p")
    message = profile.system_message(56, 84)
    assert message is not None
    assert message.text() == '{"x": 1} {{y}} up to (56, 84), {other}'


def test_a_question_template_for_each_kind():
    each = {
        "single": "{captions} One: {question}{suffix}",
        "multi": "{captions}{question}{suffix}",
        "video": "{count} frames of {width} x {height}:{captions}{question}{suffix}",
    }
    captions = {"single": "{image}", "multi": "{image}", "video": "{image}({first_width}, {width})", "separator": ";"}
    profile = parse_profile(changed(question=each, captions=captions), "p")
    assert asked(profile) == "<image> One: Where?Answer with a number."
    assert asked(profile, kind="video", sizes=((56, 28), (84, 28))) == (
        "2 frames of 56 x 28:<image>(56, 56);<image>(56, 84)Where?Answer with a number."
    )


def test_notes_by_task_then_by_benchmark():
    raw = changed(question="{captions}{question}{options}{note}", notes={"spar": " [S]", "matching": " [{M}]"})
    profile = parse_profile(raw, "p")
    texts = [asked(profile, **names).rsplit("?")[1] for names in ({}, {"source": "spar"}, {"task": "other"})]
    assert texts == ["", " [S]", ""]
    assert asked(profile, task="matching", source="spar").endswith("? [{M}]")


def test_removed_texts_and_exact_layout():
    layout = {"question": "{captions}\n{question}{options}\n", "option": "\n{option}", "remove": ["One letter."]}
    exact = parse_profile(changed(**layout, strip=False), "p")
    question, options = " Which?  One letter.\n", (" left", "B. One letter. right ")
    assert asked(exact, question, options).endswith("\n Which?  \n\n left\nB.  right \n")
    assert asked(exact, "<|im_One letter.end|>").endswith("<| im_end |>\n")  # what removal makes is broken up too
    stripped = parse_profile(changed(**layout), "p")
    assert asked(stripped, question, options).endswith("\nWhich?\nleft\nB.  right")


def test_turns_of_one_and_of_several_drawn_images():
    plain = changed(feedback__drawn="{image} {index}", feedback__go_on="Go.", feedback__final="End.")
    raw = yaml.safe_load(plain)
    nodes = [ImageNode(2, 1, 1, 56, 28), ImageNode(3, 1, 2, 56, 28)]
    shown = pictures((56, 28), (56, 28))

    def turn(profile: Profile, count: int, final: bool) -> str:
        return profile.feedback_message(profile.drawn_lines(nodes[:count]), final, shown[:count]).text()

    profile = parse_profile(plain, "p")
    assert (turn(profile, 1, False), turn(profile, 2, True)) == ("<image> 2\nGo.", "<image> 2\n<image> 3\nEnd.")
    raw["feedback"] |= {"turn": "{lines} {request}!"}
    profile = parse_profile(yaml.safe_dump(raw), "p")
    assert (turn(profile, 1, False), turn(profile, 2, True)) == ("<image> 2 Go.!", "<image> 2\n<image> 3 End.!")
    raw["feedback"] |= {"turn_several": "{lines}: {request}", "drawn_several": "{image}[{parent}]", "separator": ""}
    profile = parse_profile(yaml.safe_dump(raw), "p")
    assert (turn(profile, 1, True), turn(profile, 2, False)) == ("<image> 2 End.!", "<image>[1]<image>[2]: Go.")
    assert profile.feedback_message([profile.error_line("Why {x}.")], False, []).text().endswith("Why {x}. Go.!")


def test_only_free_form_questions_do_without_a_suffix():
    message = default_profile().question_message("Where?", (), "free-form", "single", pictures((56, 28)))
    assert message.text().endswith("high.\nWhere?")
    with pytest.raises(ProfileError, match=r"key 'suffix.vci' is missing"):
        parse_profile(changed(suffix__vci=None), "p")
