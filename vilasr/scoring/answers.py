"""What an answer says, and whether it is right, by the question's type: the `corrected` rule.

It takes an answer for what a reader would: "B", "(b)", "B. chair", "the chair" and "The answer is B" are the same
choice, "2.5 m" and "about 1,250" are numbers. An answer that fits two options is none, and in doubt it is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from vilasr.prompts import option_letter
from vilasr.scoring.metrics import mean_relative_accuracy
from vilasr.scoring.numbers import MAX_ANSWER_CHARS, first_number, plain_minus
from vilasr.scoring.vci import signed_axes, view_change_accuracy
from vilasr.tasks import Example, QuestionType, letters_in_question

__all__ = [
    "choice_letter",
    "choices",
    "corrected_accuracy",
    "first_number",
    "is_readable",
    "true_letter",
    "true_number",
]

_AL = r"[^\W_]"
_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\b")
_LONE_LETTER = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_LEADING_LETTER = re.compile(r"[\W_]*([A-Za-z])(?:\s*(?P<mark>[.):：、．）])|\s)(?P<rest>.*)", re.DOTALL)
_YES_NO = re.compile(r"\W*(yes|no)\s?[,.;:!\n](?P<rest>.*)", re.DOTALL | re.IGNORECASE)
_IS = r"(?i:is|should be|must be|would be)"
_SAYS = rf"""(?:\b(?i:ans(?:wer)?)\b|答案)[\s:：=*_"'`({{$]{{0,8}}(?:{_IS}\b|是|为)?[\s:：*_"'`({{$]{{0,8}}"""
_LEAD = re.compile(
    rf"\W*(?i:(?:(?:so|thus|hence|therefore)\W+)?(?:(?:the|my)\s)?(?:(?:final|correct)\s)?)(?:{_SAYS}|(?i:it is\s))"
)
# "A" before a small letter may be the article, as in "A chair is", but not in "A or B" and "A is right"
_ARTICLE = r"\s+(?!(?:or|and|nor|is|are|was|because|since|but|than)\b)[a-z]"
_LETTER = rf"(?:[B-HJ-Zb-hj-z]|A(?!{_ARTICLE})|a(?!\s*\w))(?!{_AL}|-{_AL})"
_DECLARED = re.compile(rf"{_SAYS}(?:(?i:option|choice)\W{{1,3}})?({_LETTER})")
_MENTIONED = re.compile(
    rf"""(?P<named>\b(?i:option|choice)s?[\s:("'*`]{{1,4}})?"""
    rf"""(?<!{_AL})(?<!{_AL}-)(?<![A-Za-z]['’])(?<![°<])(?<!</)(?P<letter>[A-Za-z])(?!{_AL}|-{_AL})"""
)
_ARTICLE_BEHIND = re.compile(_ARTICLE)
_SENTENCE_END = re.compile(r"(?:\A|[.!?:;\n])[\s\"'`*(]*\Z")
# Letters that are ruled out or compared with: "not B", "neither A nor B", "than option C", "A and B are wrong"
_ONE = rf"""(?:(?i:options?|choices?)\s)?[("'*`]{{0,2}}[A-HJ-Zb-hj-z](?!{_AL}|-{_AL})[)"'*`]{{0,2}}"""
_LIST = rf"(?:{_ONE}(?:(?:\s?[,/&]\s?|\s)(?:(?:or|nor|and)\s)?{_ONE}){{0,9}})"
_PUT_ASIDE = re.compile(
    r"(?i:(?:(?<!\bif\s)\b(?:not|cannot|never|neither|none|nor|than|instead of|except|unlike|unlikely|without)"
    r"|n['’]t|\b(?:exclud|eliminat|reject)\w{1,3}|\brul\w{1,3} out)[\s:]{1,3}"
    r"(?:(?:be|is|it|it's|to|the|of|that|think|say|choose|pick|select|really|necessarily|likely|answer|either)\s){0,5})"
    rf"(?P<before>{_LIST})"
    rf"|(?P<behind>(?<!{_AL}){_LIST})\s(?i:"
    r"(?:is|are|was|were|can|could|would|do|does|may|might|must|should|will)(?:n?['’]t|\snot)\b|(?:cannot|won't)\b"
    r"|(?:is|are|was|were|seems?|looks?)\s(?:wrong|incorrect|false|impossible|unlikely|excluded|ruled out)\b)"
)
_SINGLE = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_OR = re.compile(r"\bor (?:the |an? )?")
_LEADING_ARTICLE = re.compile(r"(?:the|an?) (?=\S)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_METRES = re.compile(r"(?<=\d) ?(?:met(?:er|re)s?|m)$")


def choice_letter(answer: str, options: Sequence[str]) -> str | None:
    """The option an answer names, as its letter "A", "B", ...; None where it names none or more than one.

    In turn: the letter alone; an option's text; what stands behind "The answer is" or a leading "B."; the only letter
    in the text. A letter that is ruled out or compared with ("not A", "nearer than A", "A is wrong") is not named; any
    other second letter makes the answer none. Options named by their text inside a sentence are not looked for.
    """
    text = answer[: 2 * MAX_ANSWER_CHARS].strip()[:MAX_ANSWER_CHARS]
    if "\\" in text:
        text = _LATEX.sub("", text)
    bodies = _bodies(tuple(options))
    lone = _LONE_LETTER.fullmatch(text)
    if lone:
        letter = lone[1].upper()
        return letter if letter in bodies else None
    lead = _LEAD.match(text)
    said = text
    if lead:
        said = text[lead.end() :]
        lone = _LONE_LETTER.fullmatch(said)
        if lone and lone[1].upper() in bodies:
            return lone[1].upper()
    named = _named(said, bodies) or (_named(text, bodies) if lead else [])
    if named:
        return named[0] if len(named) == 1 else None
    yes_no = _YES_NO.match(said)
    named = _named(yes_no[1], bodies) if yes_no else []
    if yes_no and len(named) == 1:
        return _only(yes_no["rest"], bodies, named[0], any_body=True)
    leading = _LEADING_LETTER.fullmatch(said)
    if leading and leading[1].upper() in bodies:
        letter, named = leading[1].upper(), _named(leading["rest"], bodies)
        if letter in named:
            return letter
        if leading["mark"]:
            return None if named else _only(said, bodies, letter)
    declared = list(_DECLARED.finditer(text))
    if declared:
        letters = {match[1].upper() for match in declared}
        letter = letters.pop()
        return _only(text[declared[0].start(1) :], bodies, letter) if not letters and letter in bodies else None
    return _only(text, bodies)


def _only(text: str, bodies: dict[str, str], given: str | None = None, any_body: bool = False) -> str | None:
    """The letter that alone is named in the text, or the given one if nothing in the text speaks for another."""
    if given is None and not _MENTIONED.search(text):
        return None
    aside: set[str] = set()

    def put_aside(match: re.Match[str]) -> str:
        aside.update(_SINGLE.findall((match["before"] or match["behind"]).upper()))
        return " - "

    kept = _PUT_ASIDE.sub(put_aside, text)
    named, doubtful = {given} if given else set[str](), set[str]()
    for match in _MENTIONED.finditer(kept):
        letter = match["letter"].upper()
        if letter not in bodies:
            continue
        if letter == "A" and _ARTICLE_BEHIND.match(kept, match.end()):
            if match["letter"] == "A" and not _SENTENCE_END.search(kept[max(0, match.start() - 8) : match.start()]):
                doubtful.add(letter)
        elif match["named"] or match["letter"] == letter:
            named.add(letter)
        elif letter != "A" or not re.match(r"\s*\w", kept[match.end() :]):
            doubtful.add(letter)
    if given:
        own = set(_SINGLE.findall(bodies[given].upper())) - {given}  # "A. A is left of B, because"
        named, doubtful = named - own, doubtful - own
    if len(named) != 1 or doubtful - named or named & aside:
        return None
    [letter] = named
    others = [body for other, body in bodies.items() if other != letter and body]
    folded = _fold(text)
    if any_body and any(re.search(rf"\b{re.escape(body)}\b", folded) for body in others):
        return None
    behind_or = [folded[match.end() :] for match in _OR.finditer(folded)]
    return None if any(re.match(rf"{re.escape(body)}(?!\w)", rest) for rest in behind_or for body in others) else letter


def _named(text: str, bodies: dict[str, str]) -> list[str]:
    key = _key(text)
    return [letter for letter, body in bodies.items() if body == key] if key else []


@lru_cache(maxsize=1024)
def _bodies(options: tuple[str, ...]) -> dict[str, str]:
    """The options' texts as `_key` has them, by letter."""
    return {chr(ord("A") + i): _key(_body(option)) for i, option in enumerate(options)}


def _body(option: str) -> str:
    """An option's text without the letter it may carry itself."""
    if option_letter(option) is None:
        return option
    return re.split(r"[.):]", option.strip(), maxsplit=1)[1]


def _key(text: str) -> str:
    """What is equal in two writings of an option: no article, "front left" for "front-left", "2 m" for "2 meters"."""
    key = plain_minus(_fold(text).strip("{}$_, "))
    article = _LEADING_ARTICLE.match(key)
    key = key[article.end() :] if article else key
    if "-" in key:
        key = _HYPHEN.sub(" ", key)
    if key[-1:] in "ms":
        key = _METRES.sub(" m", key)
    return key.replace(" ,", ",").replace(", ", ",")


def _fold(text: str) -> str:
    return " ".join(text.casefold().strip(" .\n\t\"'`*").split())


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
