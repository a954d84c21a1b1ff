"""`tools/read_profile.py`: a profile out of code of the published structure, and out of conversations."""

import json
import random
from dataclasses import replace

import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT, run_tool
from tests.golden import boxes
from tests.profile_records import play, record, records
from vilasr.episode import Episode
from vilasr.messages import Reply
from vilasr.profile_reading.data import read_records
from vilasr.profile_reading.output import fill, profile_of
from vilasr.profile_reading.source import read_source
from vilasr.profile_reading.templates import ReaderError
from vilasr.prompts import Profile, load_profile, parse_profile
from vilasr.tasks import Example, QuestionType

PROFILES = ROOT / "vilasr" / "profiles"

# A program of the published structure with wording of its own.
INFER = '''
import torch                                   # is not there: the file is never run
from helpers import fetch_image

RULES = """You may draw.
Answer with {{"index": 1}} in braces; the far corner is ({width}, {height})."""
ASK = """
Task:
{question}

Begin:
"""
MAX_IMAGES = 30
TYPE_TEMPLATE = {
    "multiple choice": "\\nGive a letter.",
    "regression": "\\nGive a number.",
    "numerical": "\\nGive a count.",
    "vci": "",
}


def run_turns(engine, tokenizer, samples_info=None, max_num_steps=5):
    more = 'Picture {current} ({width} by {height}). Look and go on:'
    last = 'Picture {current} ({width} by {height}). No more drawing, answer:'
    frame = """<|im_end|>
<|im_start|>user
{pad}
{prompt}
<|im_end|>
<|im_start|>assistant
"""
    left = max_num_steps - 1
    while left >= 0:
        left -= 1
        results = engine.step(samples_info)
        for result in results:
            if result is None:
                continue
            place = result['index']
            samples_info[place]['response'] += result['response']
            images = samples_info[place]['multi_modal_data']['image']
            start = len(images) + 1
            if len(result['image']) > 1:
                pad = ""
                for number, one in enumerate(result['image']):
                    width, height = fetch_image({"image": one}).size
                    pad += "<|vision_start|><|image_pad|><|vision_end|>"
                    if number < len(result['image']) - 1:
                        pad += f"Picture {start + number} ({width} by {height}).\\n"
                    else:
                        pad += (more if left > 0 else last).format(current=start + number, width=width, height=height)
                samples_info[place]['sequence'] += result['response'] + frame.format(prompt="", pad=pad)
            else:
                width, height = fetch_image({"image": result['image'][0]}).size
                text = (more if left > 0 else last).format(current=start, width=width, height=height)
                samples_info[place]['sequence'] += result['response'] + frame.format(
                    prompt=text, pad="<|vision_start|><|image_pad|><|vision_end|>")
            print("done", place, torch.cuda.memory())


def main(args):
    sampling = Sampling(max_tokens=900)
    for number, item in enumerate(load(args)):
        if args.dataset in ["vsi_bench"]:
            text = f"There are {args.max_frames} frames.\\n" + item['question']
            if item['problem_type'] == 'multiple choice' and 'options' in item:
                text = text + '\\n' + '\\n'.join(item['options'])
            text = text + TYPE_TEMPLATE[item['problem_type'].lower()]
            width, height = fetch_image({"image": item["image_path"][0]}).size
            parts = []
            for i, path in enumerate(item["image_path"]):
                parts.extend([{"type": "image", "image": path},
                              {"type": "text", "text": f"Picture {i + 1} ({width} by {height}).\\n"}])
            parts.append({"type": "text", "text": ASK.format(question=text)})
        elif args.dataset in ["maze"]:
            text = item["question"]
            if item['problem_type'] == 'multiple choice' and 'options' in item:
                text = text + '\\n' + '\\n'.join(item['options'])
            text = text + '\\nThe only picture is 1.' + TYPE_TEMPLATE[item['problem_type'].lower()]
            width, height = fetch_image({"image": item["image_path"][0]}).size
            parts = [{"type": "image", "image": item["image_path"][0]},
                     {"type": "text", "text": ASK.format(question=text)}]
        elif args.dataset in ["spar_bench", "mmsi_bench"]:
            text = item["question"]
            if item['problem_type'] == 'multiple choice' and item.get('options') is not None:
                text = text + '\\n' + '\\n'.join(item['options'])
            text = text.replace("Only a letter, please.", "")
            extra = ""
            if item.get('original_question_type') in ['position_matching']:
                extra = "Boxes are in thousandths {x}."
            text = text + "\\n" + extra
            width, height = fetch_image({"image": item["image_path"][0]}).size
            if item['data_type'] == 'single_view':
                text = text + '\\nThe only picture is 1.' + TYPE_TEMPLATE[item['problem_type'].lower()]
                parts = [{"type": "image", "image": item["image_path"][0]},
                         {"type": "text", "text": ASK.format(question=text)}]
            else:
                parts = []
                for i, path in enumerate(item["image_path"]):
                    parts.extend([{"type": "image", "image": path},
                                  {"type": "text", "text": f"Picture {i + 1} ({width} by {height}).\\n"}])
                text = text + TYPE_TEMPLATE[item['problem_type'].lower()]
                parts.append({"type": "text", "text": ASK.format(question=text)})
        else:
            raise Exception("unknown")
        conversations.append([{"role": "system", "content": RULES.format(width=width, height=height)},
                              {"role": "user", "content": parts}])
    run_turns(None, None, max_num_steps=7 if args.dataset == "maze" else 5)
'''


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Profile:
    folder = tmp_path_factory.mktemp("code")
    (folder / "infer.py").write_text(INFER)
    done = run_tool("tools/read_profile.py", folder / "infer.py", "-o", folder / "p.yaml", "--max-pixels", 50176)
    assert done.returncode == 0, done.stderr
    assert "our own text stands there" in done.stderr
    text = (folder / "p.yaml").read_text()
    assert text.startswith("# Profile read from infer.py")
    assert "our own text stands there" in text.split("\nname:")[0].replace("\n#  ", "")
    return load_profile(folder / "p.yaml")


def item(source: str, sizes, **fields) -> Example:
    base = {"question": " Where?\n", "options": ("A. here", "B. there"), "answer": "A", "task": ""}
    base |= {"question_type": QuestionType.MULTIPLE_CHOICE, "data_type": "multi_view" if len(sizes) > 1 else ""}
    frames = tuple(Image.new("RGB", size) for size in sizes)
    return Example("x", source=source, image_paths=("p",) * len(sizes), frames=frames, **(base | fields))


def opening(profile: Profile, example: Example) -> str:
    return Episode(example, profile).messages[-1].text()


def test_code_gives_the_opening_turn_of_each_benchmark(published):
    maze = item("maze", [(56, 84)])
    assert opening(published, maze) == (
        "<image>\nTask:\n Where?\n\nA. here\nB. there\nThe only picture is 1.\nGive a letter.\n\nBegin:\n"
    )
    assert Episode(maze, published).messages[0].text() == (
        'You may draw.\nAnswer with {"index": 1} in braces; the far corner is (56, 84).'
    )
    number = replace(maze, options=(), question_type=QuestionType.NUMERICAL)
    assert opening(published, number) == (
        "<image>\nTask:\n Where?\n\nThe only picture is 1.\nGive a count.\n\nBegin:\n"
    )
    frames = item("vsi_bench", [(56, 84)] * 2, options=(), question_type=QuestionType.REGRESSION)
    assert opening(published, frames) == (
        "<image>Picture 1 (56 by 84).\n<image>Picture 2 (56 by 84).\n\n"
        "Task:\nThere are 2 frames.\n Where?\n\nGive a number.\n\nBegin:\n"
    )
    views = item("mmsi_bench", [(56, 84), (28, 28), (112, 28)])  # the first size is stated for all, as the code does
    assert opening(published, views) == (
        "<image>Picture 1 (56 by 84).\n<image>Picture 2 (56 by 84).\n<image>Picture 3 (56 by 84).\n\n"
        "Task:\n Where?\n\nA. here\nB. there\n\nGive a letter.\n\nBegin:\n"
    )


def test_code_gives_additions_and_removals(published):
    single = item("spar_bench", [(56, 84)], question="Where? Only a letter, please.", task="position_matching")
    assert opening(published, single) == (
        "<image>\nTask:\nWhere? \nA. here\nB. there\nBoxes are in thousandths {x}.\nThe only picture is 1."
        "\nGive a letter.\n\nBegin:\n"
    )
    several = item("spar_bench", [(56, 84)] * 2, task="position_matching")
    assert "\nB. there\nBoxes are in thousandths {x}.\nGive a letter." in opening(published, several)
    other = replace(single, task="other")
    assert "\nB. there\n\nThe only picture is 1." in opening(published, other)


def test_code_gives_feedback_after_one_image_several_and_at_the_end(published):
    episode = Episode(item("spar_bench", [(56, 84), (28, 28)]), published)
    turns = []
    for step in range(4):
        marks = [(1, [1, 1, 20 + step, 20], f"a{step}"), (2, [1, 1, 20, 20 + step], f"b{step}")]
        turns.append(episode.advance(Reply(boxes(*marks[: 1 + step % 2]))).message.text())
    assert turns[0] == "<image>\nPicture 3 (56 by 84). Look and go on:\n"
    assert turns[1] == "<image>Picture 4 (56 by 84).\n<image>Picture 5 (28 by 28). Look and go on:\n\n"
    assert turns[3] == ("<image>Picture 7 (56 by 84).\n<image>Picture 8 (28 by 28). No more drawing, answer:\n\n")
    assert (published.budget.calls, published.budget.maze_calls, published.budget.images) == (5, 7, 30)
    assert (published.budget.turn_tokens, published.image.max_pixels, published.policy) == (900, 50176, "released")


def without(text: str, start: str, end: str) -> str:
    before, _, rest = text.partition(start)
    return before + rest.partition(end)[2]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (INFER.replace("TYPE_TEMPLATE = {", "T = 1; {"), "suffix: looked for a dictionary at module level"),
        (INFER.replace('"vci": ""', '"other": ""'), "suffix.vci: looked in TYPE_TEMPLATE"),
        (INFER.replace("args.dataset", "args.which"), "question: looked for a loop over items"),
        (INFER.replace("['sequence']", "['story']"), "feedback: looked in all functions for a loop"),
        (INFER.replace("MAX_IMAGES", "MOST"), "budget.images: looked for MAX_IMAGES"),
        (INFER.replace("max_num_steps=7", "steps=7"), "budget.calls: looked for one value of the argument"),
        (INFER.replace("'\\nThe only picture is 1.'", "describe(item)", 1), "question: the loop in line"),
        (INFER.replace("'\\n'.join(item['options'])", "', '.join(item['options'])", 1), "the same text before each"),
        (INFER.replace('elif args.dataset in ["spar_bench", "mmsi_bench"]', "elif False"), "question.multi: looked"),
        (without(INFER, "    more = ", "\n"), "feedback: function run_turns: line"),
        (INFER.replace("<|im_start|>user", "<|user|>"), "a user turn in Qwen's chat format"),
        ("x = 1", "question: looked for a loop"),
        ("for x in y:\n    if args.dataset == 'a':\n        continue\n    break", "question: "),
    ],
)
def test_what_code_lacks_is_named_and_nothing_written(tmp_path, code, told):
    assert code != INFER
    (tmp_path / "infer.py").write_text(code)
    done = run_tool("tools/read_profile.py", tmp_path / "infer.py", "-o", tmp_path / "p.yaml")
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["infer.py"]


def test_code_is_never_executed(tmp_path):
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    code = trap + INFER.replace(
        "        if args.dataset in", "        __import__('os')._exit(9)\n        if args.dataset in"
    )
    (tmp_path / "infer.py").write_text(code)
    assert not read_source([tmp_path / "infer.py"]).missing
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "        for i in range(10**9):\n            text = 'a'\n",
        "        text = 'a' * 10**12\n        text = '{:>999999999}'.format(1)\n",
        "        a = ['a']\n        for i in range(99):\n            a.extend(a)\n",
        "        a = 'aa'\n        for i in range(99):\n            a = a.replace('a', a)\n",
        "        n = 7\n        for i in range(99):\n            n = n * n\n",
    ],
    ids=["long loop", "long text", "long list", "long replacement", "long number"],
)
def test_code_cannot_make_the_reader_run_away(tmp_path, statement):
    code = INFER.replace("        if args.dataset in", statement + "        if args.dataset in", 1)
    (tmp_path / "infer.py").write_text(code)
    assert read_source([tmp_path / "infer.py"]).keys["feedback"]["go_on"] == "Look and go on:"  # it ends


# Data


@pytest.mark.parametrize("troubled", [False, True], ids=["drawings", "errors and repeats"])
@pytest.mark.parametrize("name", ["vilasr", "nano", "published"])
def test_a_profile_comes_back_from_its_records(published, name, troubled):
    original = published if name == "published" else load_profile(PROFILES / f"{name}.yaml")
    items, made = records(original, 300, troubled)
    reading = read_records(made, "made.json")
    assert not reading.missing
    again = profile_of(reading, fill(reading, "again", original.image.max_pixels, missing_ok=True))
    for seed, (one, expected) in enumerate(zip(items, made, strict=True)):
        assert record(play(one, again, seed, troubled)) == expected
    assert reading.origins["question.single"].startswith("inferred; gives ")


def test_data_in_the_other_spelling_with_some_strangers(tmp_path):
    _, made = records(load_profile(PROFILES / "vilasr.yaml"), 120)
    roles = {"user": "human", "assistant": "gpt", "system": "system"}
    other = [
        {"messages": [{"from": roles[m["role"]], "value": m["content"]} for m in one["conversations"]]} for one in made
    ]
    strange = {"messages": [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "This."}]}
    (tmp_path / "d.json").write_text(json.dumps([*other, strange, {"messages": 3}, 7]))
    done = run_tool("tools/read_profile.py", tmp_path / "d.json", "-o", tmp_path / "p.yaml")
    assert done.returncode == 0, done.stderr
    assert "2 of 123 records cannot be used; record 121: conversations: must be a list" in done.stderr
    assert "records that do not fit: record 120, system" in done.stderr
    raw = yaml.safe_load((tmp_path / "p.yaml").read_text())
    shipped = yaml.safe_load((PROFILES / "vilasr.yaml").read_text())
    for key in ("system", "option", "captions"):
        assert raw[key] == shipped[key]
    for key in ("drawn", "go_on", "final"):
        assert raw["feedback"][key] == shipped["feedback"][key]
    assert set(raw["question"].values()) == {shipped["question"]}


def test_too_few_records_that_fit(tmp_path):
    _, made = records(load_profile(PROFILES / "vilasr.yaml"), 60)
    _, others = records(load_profile(PROFILES / "nano.yaml"), 30)
    (tmp_path / "d.json").write_text(json.dumps(made + others))
    command = ("tools/read_profile.py", tmp_path / "d.json", "-o", tmp_path / "p.yaml")
    done = run_tool(*command)
    assert done.returncode == 1
    assert "67% of the records, at least 90% are needed" in done.stderr
    assert not (tmp_path / "p.yaml").exists()
    forced = run_tool(*command, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "67% of the records" in (tmp_path / "p.yaml").read_text()


def test_mazes_of_our_own_give_their_profile(mazes, tmp_path):
    source = mazes / "train" / "cold_start" / "maze.json"
    done = run_tool("tools/read_profile.py", source, "-o", tmp_path / "p.yaml", "--name", "mine")
    assert done.returncode == 0, done.stderr
    raw = yaml.safe_load((tmp_path / "p.yaml").read_text())
    nano = yaml.safe_load((PROFILES / "nano.yaml").read_text())
    assert raw["name"] == "mine"
    assert raw["system"] == nano["system"]
    assert raw["captions"]["single"] == nano["captions"]["single"]  # though all images have one size
    assert raw["feedback"]["drawn"] == nano["feedback"]["drawn"]
    assert raw["suffix"]["multiple choice"] == nano["suffix"]["multiple choice"]


def test_several_files_of_data_are_taken_together(tmp_path):
    items, made = records(load_profile(PROFILES / "vilasr.yaml"), 150)
    for kind in ("single", "multi", "video"):
        of_kind = [one for item, one in zip(items, made, strict=True) if item.caption_kind == kind]
        (tmp_path / f"{kind}.json").write_text(json.dumps(of_kind))
    sources = [tmp_path / f"{kind}.json" for kind in ("single", "multi", "video")]
    done = run_tool("tools/read_profile.py", *sources, "-o", tmp_path / "p.yaml")
    assert done.returncode == 0, done.stderr
    raw = yaml.safe_load((tmp_path / "p.yaml").read_text())
    assert raw["captions"] == yaml.safe_load((PROFILES / "vilasr.yaml").read_text())["captions"]
    alone = run_tool("tools/read_profile.py", sources[0], "-o", tmp_path / "single.yaml")
    assert "question.video, captions.video: not in the data" in alone.stderr
    (tmp_path / "infer.py").write_text(INFER)
    mixed = run_tool("tools/read_profile.py", tmp_path / "infer.py", sources[0], "-o", tmp_path / "m.yaml")
    assert mixed.returncode == 2
    assert "must be the published infer.py, or .json" in mixed.stderr


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "infer.py").write_text(INFER)
    (tmp_path / "p.yaml").write_text("mine")
    command = ("tools/read_profile.py", tmp_path / "infer.py", "-o", tmp_path / "p.yaml")
    done = run_tool(*command)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (tmp_path / "p.yaml").read_text() == "mine"
    assert run_tool(*command, "--overwrite").returncode == 0
    assert parse_profile((tmp_path / "p.yaml").read_text(), "p").name == "p"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"", "must be the published infer.py, or .json"),
        ("none.json", None, "cannot be read as text"),
        ("a.py", b"\xff\xfe\x00", "cannot be read as text"),
        ("a.py", b"def (", "not Python that can be read"),
        ("a.py", b"x = " + b"(" * 5000, "not Python that can be read"),
        ("a.py", b"x = " + b"-" * 50_000 + b"1", "not Python that can be read"),
        ("a.py", b"x = 1\x00", "not Python that can be read"),
        ("a.json", b"\x89PNG\r\n\x1a\n\xff", "cannot be read as text"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.json", b"{}", "must be a list of records"),
        ("a.json", b"[]", "must be a list of records"),
        ("a.json", b"[1, 2]", "no record can be used; record 0: must be an object"),
        ("a.json", b'[{"question": "?"}]', "conversations: must be a list"),
        ("a.json", b'[{"conversations": [{"role": "user"}]}]', "needs a role"),
        ("a.json", b'[{"conversations": [{"role": "user", "content": "<image>"}]}]', "must take turns"),
    ],
)
def test_unreadable_sources(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReaderError, match=r".") as error:
        read_source([tmp_path / name])
    assert told in str(error.value)
    assert str(tmp_path / name) in str(error.value) or name in str(error.value)


def test_a_source_error_is_one_line_and_status_two(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    done = run_tool("tools/read_profile.py", tmp_path / "a.json", "-o", tmp_path / "p.yaml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_random_conversations_never_crash_the_reader():
    rng = random.Random(3)
    words = [
        "<image>",
        "a {b}",
        "7",
        "12 x 30",
        "\n",
        "A. x\nB. y",
        "<answer> B </answer>",
        "",
        "```",
        ": ",
        "\x00",
        "}",
    ]
    for _ in range(300):
        made = []
        for _ in range(rng.randint(1, 6)):
            said = [
                {"role": role, "content": "<image>" * (turn == 0) + " ".join(rng.choices(words, k=rng.randint(0, 6)))}
                for turn in range(rng.randint(1, 3))
                for role in ("user", "assistant")
            ]
            made.append({"conversations": said})
        reading = read_records(made, "x")
        assert reading.missing or reading.keys


def test_the_records_helper_covers_what_it_should(profile):
    items, made = records(profile, 200)
    texts = [message["content"] for one in made for message in one["conversations"][2:] if message["role"] == "user"]
    assert any(text.count("<image>") > 1 and text.endswith(profile.feedback["final"]) for text in texts)
    assert any(text.count("<image>") == 1 and text.endswith(profile.feedback["final"]) for text in texts)
    assert {one.caption_kind for one in items} == {"single", "multi", "video"}
