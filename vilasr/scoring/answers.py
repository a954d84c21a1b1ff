"""What an answer says, and whether it is right, by the question's type: the `corrected` rule.

It takes an answer for what a reader would: "B", "(b)", "B. chair", "chair" and "The answer is B" are the same choice,
"2.5 m" and "about 1,250" are numbers. An answer that fits two options is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vilasr.prompts import option_letter
from vilasr.scoring.metrics import mean_relative_accuracy
from vilasr.scoring.vci import signed_axes, view_change_accuracy
from vilasr.tasks import Example, QuestionType, letters_in_question

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|[-+]?\.\d+")
_LONE_LETTER = re.compile(r"\W*([A-Za-z])\W*")
_LEADING_LETTER = re.compile(r"\W*([A-Za-z])\s*[.):]\s*(?P<rest>.*)", re.DOTALL)
_MARKED_LETTER = re.compile(r"(?<![A-Za-z])\(?([A-Za-z])[.):]")  # "A.", "(b)", "c:" as options are written
_FINAL_LETTER = re.compile(r"\b(?:answer|option|choice)\W+(?:is\W+)?\(?([A-Za-z])\W*$", re.IGNORECASE)
# A capital letter on its own; not the article in "A chair is", but the choice in "A or B" and "A is right"
_MENTIONED_LETTER = re.compile(r"\b(A)\b(?!\s+(?!(?:or|and|is)\b)[a-z])|\b([B-Z])\b")
_MAX_ANSWER_CHARS = 2000


def choice_letter(answer: str, options: Sequence[str]) -> str | None:
    """The option an answer names, as its letter "A", "B", ...; None where it names none or more than one."""
    text = answer.strip()[:_MAX_ANSWER_CHARS]
    letters = [chr(ord("A") + i) for i in range(len(options))]
    lone = _LONE_LETTER.fullmatch(text)
    if lone:
        letter = lone[1].upper()
        return letter if letter in letters else None
    folded = _fold(text)
    named = [letter for letter, option in zip(letters, options, strict=True) if _fold(_body(option)) == folded]
    if len(named) == 1:
        return named[0]
    leading = _LEADING_LETTER.fullmatch(text)
    if leading and leading[1].upper() in letters:
        others = {match[1].upper() for match in _MARKED_LETTER.finditer(leading["rest"])} & set(letters)
        return leading[1].upper() if others <= {leading[1].upper()} else None
    final = _FINAL_LETTER.search(text)
    if final and final[1].upper() in letters:
        return final[1].upper()
    mentioned = {match[0] for match in _MENTIONED_LETTER.finditer(text) if match[0] in letters}
    return mentioned.pop() if len(mentioned) == 1 else None


def _body(option: str) -> str:
    """An option's text without the letter it may carry itself."""
    if option_letter(option) is None:
        return option
    return re.split(r"[.):]", option.strip(), maxsplit=1)[1]


def _fold(text: str) -> str:
    return " ".join(text.casefold().strip(" .\n\t\"'`*").split())


def first_number(answer: str) -> float | None:
    """The first number in the text, with its sign; commas between thousands are read as such. None without one."""
    match = _NUMBER.search(answer[:_MAX_ANSWER_CHARS])
    return float(match[0].replace(",", "")) if match else None


def choices(example: Example) -> tuple[str, ...]:
    """The options of a multiple-choice item; where its question holds them, they are read out of it, and where they
    cannot be, they are the bare letters A to D."""
    return example.options or letters_in_question(example.question) or ("A", "B", "C", "D")


def is_readable(example: Example, answer: str) -> bool:
    """Whether the answer says something of the question's type: one option, a number, a list of moves."""
    if example.question_type is QuestionType.MULTIPLE_CHOICE:
        return choice_letter(answer, choices(example)) is not None
    if example.question_type is QuestionType.VCI:
        return signed_axes(answer) is not None
    if example.question_type is QuestionType.FREE_FORM:
        return True
    return first_number(answer) is not None


def true_letter(example: Example) -> str:
    """The letter of a multiple-choice item's own answer. Raises ValueError where it is none of the options."""
    options = choices(example)
    letter = choice_letter(example.answer, options)
    if letter is None:
        raise ValueError(f"item {example.id}: answer: {example.answer!r} is none of its {len(options)} options")
    return letter


def true_number(example: Example) -> float:
    """Raises ValueError where the item's own answer is no number."""
    number = first_number(example.answer)
    if number is None:
        raise ValueError(f"item {example.id}: answer: {example.answer!r} is not a number")
    return number


def corrected_accuracy(example: Example, answer: str | None) -> float:
    """Accuracy of an answer in [0, 1]: 0 or 1 for a choice or a free text, mean relative accuracy for a number, its
    mean over five axes for a view change. No answer is 0.

    Raises ValueError where the item's own answer cannot be read as its type (the data is wrong, not the model).
    """
    if example.question_type is QuestionType.MULTIPLE_CHOICE:
        truth = true_letter(example)
        return float(answer is not None and choice_letter(answer, choices(example)) == truth)
    if example.question_type is QuestionType.VCI:
        try:
            return view_change_accuracy(answer or "", example.answer)
        except ValueError as exc:
            raise ValueError(f"item {example.id}: answer: {exc}") from exc
    if example.question_type is QuestionType.FREE_FORM:
        return float(answer is not None and _fold(answer) == _fold(example.answer))
    target = true_number(example)
    predicted = None if answer is None else first_number(answer)
    return 0.0 if predicted is None else mean_relative_accuracy(predicted, target)
