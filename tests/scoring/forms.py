"""Forms of answers for triples.py: {L} the letter, {l} small, {M} any, {body} an option; {n} the number, {k} any."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("¦"))


EMPTY = _split("¦ ¦.¦...¦\n¦\t¦\u3000¦\x00¦no idea¦<answer></answer>¦nan¦None¦I cannot tell.")
TRUTHS = _split("0¦0.0¦-0.0¦-3¦-2.5¦1e-9¦1e300¦nan¦inf¦-inf¦1_0¦٣¦5 m¦1,250¦five")
# Forms that models write, and forms that scorers stumble over.
CHOICES = _split(
    "{L}¦{l}¦{L}.¦{L}.\n¦.{L}¦E; {L}¦F: no, {L}¦{L}..¦({L})¦{L})¦{L}:¦**{L}**¦`{L}`¦``{L}``¦```{L}```¦{{{L}}}¦"
    "\\boxed{{{L}}}¦$\\boxed{{\\text{{{L}}}}}$¦{L}. {body}¦{L} {body}¦({L}) {body}¦{body}¦{L}\n{body}¦"
    "The answer is {L}¦the answer is {l}.¦Answer: {L}¦Option {L}¦option {l}¦I choose {L} because¦{L}{M}¦"
    "{L} or {M}¦not {M}, so {L}¦``{M}`` then `{L}`¦`{L}` or ``{M}``¦`{L}¦``{L}`¦{L}_1¦Ｂ¦_{L}_¦"
    "<answer>{L}</answer>¦<answer> {l}. {body} </answer>¦<think>{M}</think> {L}¦<answer>{L}¦{L}</answer>¦"
    "Because {body}¦A chair¦A\xa0chair¦a {body}¦{L}\t¦\t{L}¦ {L}¦{L} ¦{L}\r\n¦-{L}¦{L}é¦é{L}¦E¦F¦e)¦Dear me¦"
    "cab¦{{{L}}} not {M}¦{{{M}}} `{L}`¦`x {{{L}}}`¦{L}'s¦{L}-{M}¦ȦB¦İ¦ß"
)
NUMBERS = _split(
    "{n}¦{n}.¦{n}.\n¦{n}..¦ {n}¦{n} ¦{n} meters¦{n}m¦{n} m2¦{n}m^2¦about {n}¦~{n}¦={n}¦-{n}¦+{n}¦- {n}¦−{n}¦"
    "{n}%¦${n}¦**{n}**¦{n}\n{k}¦{k} or {n}¦{k} to {n}¦{k}-{n}¦{n},{k}¦{n}/{k}¦The answer is {n}.¦Answer: {n}¦"
    "\\boxed{{{n}}}¦<answer>{n}</answer>¦<answer> {n} m </answer>¦m{n}¦x^{n}¦{n}^2¦{k}^{n}¦^{n}¦{n}e1¦{n}E-1¦"
    "{n}e400¦1_0¦1__0¦_1¦{n}_¦{n}.{k}.{k}¦.{n}¦{n}.e¦0x1F¦nan¦NaN¦inf¦-inf¦Infinity¦infinit¦1,000¦1.000,5¦"
    "1 000¦0¦-0¦-0.0¦00012¦{n}{n}{n}¦ten¦Three boxes¦twenty-one¦three hundred and twenty-one¦two {n}¦{n} two¦"
    "one hundred thousand¦oneself¦a hundred¦zero¦one. {n}¦and five¦six and¦{k} x {k} = {n}¦٣¦٣.٥¦９¦1²¦½¦{n}½¦"
    "Ⅳ¦frame 3: {n}¦chair-2 {n}¦(1) {n}¦1. {n}¦{n}\x00"
)
NUMBERS += ("9" * 400, "9" * 400 + ".5", "{n} " + "8" * 400, "8" * 5000 + " {n}")  # no float, no int
ODD_NAMES = _split("Move_Right¦ move_right¦move_right ¦move right¦rotate_forward¦jump¦¦MOVE_UP¦move_right\n")
ODD_VALUES = _split("¦ ¦1m¦one¦nan¦inf¦-inf¦1e400¦1_0¦٣¦+2¦ 3 ¦1:2¦−1¦1,5¦0x1¦.5¦5.")
