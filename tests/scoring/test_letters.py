"""Options that stand in the question itself."""

import time

import pytest

from vilasr.tasks import letters_in_question


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Where?\nA. left\nB. right", ("A. left", "B. right")),
        ("Where? Options: A: left, B: right", ("A. left", "B. right")),
        (
            "From the camera at A. which is nearer? Options: A: chair, B: table, C: lamp, D: sofa",
            ("A. chair", "B. table", "C. lamp", "D. sofa"),
        ),
        (
            "Point A. and point B. are marked. Which relation? Options: A: A is left of B, B: B is left of A",
            ("A. A is left of B", "B. B is left of A"),
        ),
        ("Options: none so far. A. x B. y\nChoices: A. left\nB. right", ("A. left", "B. right")),
        ("A. left\nB. right\nAnswer choices: pick one", ("A. left", "B. right")),
        ("选项：A：左，B：右", ("A. 左", "B. 右")),
        ("Where?\nA、left\nB、right", ("A. left", "B. right")),
        ("Where?\n（A）left\n（B）right", ("A. left", "B. right")),
        ("Where?\nA．left\nB．right", ("A. left", "B. right")),
        ("Where?\na. left\nb. right", ("A. left", "B. right")),
        ("Where?\r\n  (a) left\r\n  (b) right", ("A. left", "B. right")),
        ("Point A. and point B. are marked.\na) left\nb) right", ("A. left", "B. right")),
        ("It is a. b. c. thing", ()),
        (
            "Which? A. 0.7 B. 1.3 C. 1.0 Your answer can only include one of options A, B or C.",
            ("A. 0.7", "B. 1.3", "C. 1.0"),
        ),
        ("Which?\nA. left\nB. right  Answer with the letter.\nNow.", ("A. left", "B. right")),
        ("Which? A. left B. an answer within", ("A. left", "B. an answer within")),
        ("Answer with one of options A, B, C or D", ("A", "B", "C", "D")),
        ("请从A、B、C、D中选择", ()),
        ("Where is it?", ()),
        ("", ()),
    ],
)
def test_letters(question, options):
    assert letters_in_question(question) == options


@pytest.mark.parametrize("piece", ["A. ", "A. B. ", "\na. ", "Options: ", "options A ", "A、", " ", "((A", "A,or"])
def test_no_question_takes_long(piece):
    started = time.process_time()
    letters_in_question((piece * 2000)[:2000])
    assert time.process_time() - started < 0.5
