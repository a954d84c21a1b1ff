"""Seeded (task, answer, truth) triples that look for the edges of the official scorers.

An answer is one of: a form that models write ("The answer is B."), a form that scorers stumble over ("1_0", "``B`` or
`C`"), either of them with a few characters changed, or characters at random out of those that some rule looks at.
Truths are what the releases hold, letters, numbers and moves, and numbers that they do not: 0, negative, huge, nan.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.scoring import forms
from tests.scoring.oracles import maze, mmsi_bench, spar_bench, spatialeval_real, vsi_bench

BENCHMARKS = {
    "vsi_bench": vsi_bench.TASKS,
    "spar_bench": spar_bench.TASKS,
    "mmsi_bench": mmsi_bench.TASKS,
    "SpatialEval_spatialreal": spatialeval_real.TASKS,
    "maze": maze.TASKS,
}
OPTIONS = ("A. the red chair", "B. a table", "C. 2.5 meters", "D. behind it, on the left")
# The same options where releases have them in the question's text (`vilasr.benchmark_release`)
QUESTIONS = {
    "spar_bench": "\n".join(
        ("Which? Select one.", *OPTIONS, "Your answer can only include one of options A, B, C or D.")
    ),
    "mmsi_bench": f"Which, seen from point A? Options: {', '.join(option.replace('.', ':', 1) for option in OPTIONS)}",
    "SpatialEval_spatialreal": "\n".join(("Which?", "Available options:", *OPTIONS)),
}
_BODIES = tuple(option[3:] for option in OPTIONS)
_NAMES = tuple(f"{verb}_{way}" for verb in ("move", "rotate") for way in ("right", "left", "up", "down"))
_NAMES += ("move_forward", "move_backward")
_PLAIN_ENDS = {
    "choice": ("", "", ".", ". a table", " "),
    "number": ("", "", " meters", "4", ".5"),
    "moves": ("", "0", ","),
}
_SOUPS = {
    "choice": "ABCDEFabcdez`` ``.()[]{}<>*_-:,;'\"\n\t 0é\xa0Ａ",
    "number": "0123456789012345..,,^-+eE_ xm%/=\n\t٣９²½\xa0 andtwo",
    "moves": "move_rightleft:0.1,-2 up:;=\n",
}


@dataclass(frozen=True, slots=True)
class Triple:
    """`kind` is the task's: choice, number or moves."""

    task: str
    answer: str
    truth: str
    kind: str


def triples(benchmark: str, count: int, seed: int = 0) -> Iterator[Triple]:
    """`count` triples, the tasks in turn; the same for the same arguments."""
    rng = random.Random(f"{benchmark} {seed}")
    for number in range(count):
        task = BENCHMARKS[benchmark][number % len(BENCHMARKS[benchmark])]
        kind = kind_of(benchmark, task)
        truth = _TRUTH[kind](rng)
        yield Triple(task, _answer(rng, kind, truth), truth, kind)


def every_form(benchmark: str) -> Iterator[Triple]:
    """One triple of each form and empty text for each task, where that is few enough to be run always."""
    rng = random.Random(benchmark)
    for task in BENCHMARKS[benchmark]:
        kind = kind_of(benchmark, task)
        truth = {"choice": "B", "number": "10", "moves": "move_up:1,rotate_left:30"}[kind]
        told = {"L": "B", "l": "b", "M": "C", "body": _BODIES[1]} if kind == "choice" else {"n": "10", "k": 7}
        found = {"choice": forms.CHOICES, "number": forms.NUMBERS, "moves": ()}[kind]
        answers = [form.format(**told) for form in found] or [_moves_form(rng, truth) for _ in range(200)]
        yield from (Triple(task, answer, truth, kind) for answer in (*forms.EMPTY, *answers))


def kind_of(benchmark: str, task: str) -> str:
    if task == spar_bench.VIEW_CHANGE:
        return "moves"
    return "number" if task in vsi_bench.NUMBERS or task in spar_bench.LEVELS["Low"] else "choice"


def _answer(rng: random.Random, kind: str, truth: str) -> str:
    roll = rng.random()
    if roll < 0.04:
        return rng.choice(forms.EMPTY)
    if roll < 0.14:
        return "".join(rng.choices(_SOUPS[kind], k=rng.randint(1, 12)))
    if roll < 0.4:
        plain = truth if kind == "moves" or rng.random() < 0.8 else _TRUTH[kind](rng)
        answer = plain + rng.choice(_PLAIN_ENDS[kind])
    else:
        answer = _FORM[kind](rng, truth)
    if roll > 0.8:
        answer = _mutated(rng, answer[:200], kind)
    if roll > 0.97:
        answer = (
            _FORM[kind](rng, truth)[:200]
            + rng.choice((" ", "\n", ", "))
            + "so it seems. " * rng.randint(1, 60)
            + answer
        )
    return answer


def _mutated(rng: random.Random, text: str, kind: str) -> str:
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        match rng.randint(0, 3):
            case 0:
                text = text[:at] + rng.choice(_SOUPS[kind]) + text[at:]
            case 1:
                text = text[:at] + text[at + 1 :]
            case 2:
                text = text.swapcase() if rng.random() < 0.5 else text[:at].upper() + text[at:]
            case _:
                text = text[:at] + text[: rng.randint(0, 6)] + text[at:]
    return text


def _letter(rng: random.Random) -> str:
    return rng.choice("ABCD")


def _number(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(forms.TRUTHS)
    return rng.choice(
        (str(rng.randint(0, 30)), f"{rng.uniform(0, 20):.1f}", f"{rng.uniform(0, 500):.2f}", str(rng.random()))
    )


def _moves(rng: random.Random) -> str:
    names = rng.sample(_NAMES, rng.randint(1, 5))
    return ",".join(f"{name}:{rng.choice((0, 0.0, 1, 30, round(rng.uniform(-3, 90), 1)))}" for name in names)


def _choice_form(rng: random.Random, truth: str) -> str:
    letter = truth if rng.random() < 0.6 else rng.choice("ABCD")
    return rng.choice(forms.CHOICES).format(L=letter, l=letter.lower(), M=rng.choice("ABCD"), body=rng.choice(_BODIES))


def _number_form(rng: random.Random, truth: str) -> str:
    near = truth
    try:
        if rng.random() < 0.7:  # on and around each threshold, and anything else
            factor = rng.choice(
                (1, 0.5, 1.5, 0.45, 1.55, *(1 + sign * step / 20 for sign in (-1, 1) for step in range(12)))
            )
            near = f"{float(truth) * factor:.6g}" if rng.random() < 0.5 else repr(float(truth) * factor)
    except ValueError:
        near = str(rng.randint(0, 20))
    return rng.choice(forms.NUMBERS).format(n=near, k=rng.randint(0, 12))


def _moves_form(rng: random.Random, truth: str) -> str:
    pairs = [piece.split(":") for piece in truth.split(",")]
    for pair in pairs:
        if rng.random() < 0.4:
            pair[1] = (
                f"{float(pair[1]) * rng.choice((0.5, 0.9, 0.95, 1.05, 1.1, 2, -1)) + rng.choice((0, 0, 0.04, 0.4)):.6g}"
            )
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    if rng.random() < 0.4:
        rng.choice(pairs)[rng.randint(0, 1)] = rng.choice(forms.ODD_NAMES + forms.ODD_VALUES)
    if rng.random() < 0.3:
        pairs.append([rng.choice(_NAMES), str(rng.randint(-3, 3))])
    between, colon = rng.choice((",", ",", ",", ", ", ";", ",,", ",\n")), rng.choice((":", ":", ":", ": ", "=", " : "))
    text = between.join(colon.join(pair) for pair in pairs)
    return rng.choice(("{}", "{}", "{}", "{}.", "{},", "<answer>{}</answer>", "The camera: {}", "`{}`")).format(text)


_TRUTH: dict[str, Callable[[random.Random], str]] = {"choice": _letter, "number": _number, "moves": _moves}
_FORM: dict[str, Callable[[random.Random, str], str]] = {
    "choice": _choice_form,
    "number": _number_form,
    "moves": _moves_form,
}
