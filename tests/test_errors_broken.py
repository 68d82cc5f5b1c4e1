"""Programs as people break them: each fault is found where it stands, under its code, and nothing else is reported.

`‹E101›` stands before the place where E101 is expected; it is taken out before the program is read.
"""

from __future__ import annotations

import re

import pytest

from lossc.compiler.check import check_source
from lossc.grammar.diagnostics.render import render_text
from lossc.grammar.source import Source

TOKENS = "use std.settings.tokens\n"
CLASSES = "use std.settings.classes\n"
PAIRS = "use std.settings.pairs\n"
ROWS = "axis b : batch\ninput x : real[b]\n"

BROKEN = {
    # names
    "a value mistyped": TOKENS + "minimize\n  loss : mean[b, t where mask](‹E101›nlll)",
    "a label mistyped in a condition": TOKENS + "minimize\n  loss : mean[b, t where ‹E101›lables >= 0](nll)",
    "a function mistyped": CLASSES + "minimize\n  loss : mean[b](‹E107›sofplus(nll))",
    "a term mistyped and not imported": PAIRS + "minimize\n  loss : mean[pair](‹E107›simpoo(logp, length))",
    "a term that is not imported": CLASSES + "minimize\n  loss : mean[b](‹E107›label_smoothing(logits, labels))",
    "an axis mistyped": TOKENS + "minimize\n  loss : mean[b, ‹E301›time where mask](nll)",
    "an axis of another setting": CLASSES + "minimize\n  loss : mean[b, ‹E301›t](nll)",
    "a position mistyped": PAIRS + "minimize\n  loss : mean[pair](logp[side = ‹E307›choosen])",
    "a kind mistyped": "axis b : batch\ninput x : ‹E206›rael[b]\nminimize\n  loss : mean[b](x)",
    "a kind of Python": "axis b : batch\ninput x : real[b]\ndata on : ‹E206›bool[b]\nminimize\n  loss : mean[b where on](x)",
    "a module mistyped": "use ‹E104›std.setings.tokens\nminimize\n  loss : mean[b, t where mask](nll)",
    "a setting by its last name": "use ‹E104›tokens\nminimize\n  loss : mean[b, t where mask](nll)",
    "a term of another module": CLASSES + "use std.divergence (‹E104›focal)\nminimize\n  loss : mean[b](focal())",
    "an import mistyped, its use right": CLASSES + "use std.ce (‹E104›focl)\nminimize\n  loss : mean[b](focal())",
    "an import mistyped, its use too": CLASSES + "use std.ce (‹E104›focl)\nminimize\n  loss : mean[b](focl())",
    "a parameter inside of a term": CLASSES
    + "param beta : positive = 2\nterm f(x : real) = ‹E101›beta * x\nminimize\n  loss : beta * mean[b](f(nll))",
    "a tensor inside of a term": CLASSES + "term f(x : real) = x - ‹E101›nll\nminimize\n  loss : mean[b](f(nll))",
    "a name used before its prefix": "use std.settings.tokens as a\nminimize\n  loss : mean[a.b, a.t](‹E101›nll)",
    "a let and a param of one name": CLASSES
    + "param scale : real = 2\nlet ‹E102›scale = 3\nminimize\n  loss : scale * mean[b](nll)",
    "a tensor that the setting has": CLASSES
    + "input ‹E103›logits : logits[b, v]\nminimize\n  loss : mean[b](logsumexp[v](logits))",
    "a term called like a function": ROWS + "term ‹E103›total(x : real) = x\nminimize\n  loss : mean[b](total(x))",
    "lets in a circle": CLASSES + "let a = b2\nlet b2 = c\nlet ‹E106›c = a\nminimize\n  loss : a * mean[b](nll)",
    "a let of itself": CLASSES + "let ‹E106›a = a + 1\nminimize\n  loss : a * mean[b](nll)",
    "a term that calls itself": CLASSES + "term ‹E106›f(x : real) = f(x / 2)\nminimize\n  loss : mean[b](f(nll))",
    "everything at once": CLASSES
    + "use std.ce (focal)\nparam gamma : nonneg = ‹E401›-1\nminimize\n"
    + "  loss : mean[b](focal(‹E101›logit, labels, gamma = gamma))\n  more : ‹E312›nll\n  reg  : ‹E107›l3(gamma)",
    # arguments
    "arguments in each other's place": CLASSES
    + "use std.ce (ce)\nminimize\n  loss : mean[b](ce(‹E204›labels, logits))",
    "an argument too many": CLASSES + "use std.ce (z_loss)\nminimize\n  loss : mean[b](z_loss(logits, ‹E201›labels))",
    "an argument missing": PAIRS + "use std.preference (npo)\nminimize\n  loss : mean[pair](‹E201›npo())",
    "an argument mistyped": PAIRS
    + "use std.preference (dpo)\nminimize\n  loss : mean[pair](dpo(margin, ‹E202›bta = 1))",
    "an argument twice": PAIRS
    + "use std.preference (dpo)\nminimize\n  loss : mean[pair](dpo(margin, ‹E203›margin = 1))",
    "axes as an argument": CLASSES + "minimize\n  loss : ‹E308›mean(nll, axis = 0)",
    "a softmax without its axis": CLASSES + "minimize\n  loss : mean[b](-log(‹E308›softmax(logits)[v = labels]))",
    "a value called": CLASSES + "minimize\n  loss : mean[b](2 * ‹E207›nll(labels))",
    "a function without parentheses": CLASSES + "minimize\n  loss : mean[b](nll) + ‹E207›exp",
    "a bracket on a function": CLASSES + "minimize\n  loss : mean[b](‹E306›exp[b](nll))",
    # kinds
    "probabilities for scores": CLASSES
    + "use std.ce (ce)\nlet p = softmax[v](logits)\nminimize\n  loss : mean[b](ce(‹E204›p, labels))",
    "KL of scores and probabilities": "use std.settings.distill\nuse std.divergence (kl)\n"
    + "minimize\n  loss : mean[b, t where mask](kl(‹E204›softmax[v](teacher), logits))",
    "KL of probabilities and scores": "use std.settings.distill\nuse std.divergence (kl_prob)\n"
    + "minimize\n  loss : mean[b, t where mask](kl_prob(softmax[v](teacher), ‹E204›logits))",
    "a sum of log-probabilities for scores": "use std.ce (z_loss)\naxis b : batch\naxis v\ndata logp : logprob[b]\n"
    + "minimize\n  loss : mean[b](z_loss(‹E204›logp))",
    "labels for a mask": TOKENS + "minimize\n  loss : mean[b, t where ‹E205›labels](nll)",
    "a number for a mask": ROWS + "data keep : real[b]\nminimize\n  loss : mean[b where ‹E205›keep](x)",
    "a number for a condition": ROWS + "minimize\n  loss : mean[b](x if ‹E205›x else 0)",
    "and of numbers": ROWS + "minimize\n  loss : mean[b where x > 0 and ‹E205›x](x)",
    "labels of another axis": "axis b : batch\naxis v\naxis w\ninput z : logits[b, v]\ndata y : label[b] in w\n"
    + "minimize\n  loss : mean[b](z[v = ‹E209›y])",
    "a real number as an index": CLASSES + "minimize\n  loss : mean[b](logits[v = ‹E208›nll])",
    "the last entry as in Python": TOKENS + "minimize\n  loss : mean[b](nll[t = ‹E208›-1])",
    "a position past the end": PAIRS + "minimize\n  loss : mean[pair](logp[side = ‹E307›2])",
    "a label without its axis": "axis b : batch\ninput z : logits[b, v]\ndata y : ‹E303›label[b]\n"
    + "minimize\n  loss : mean[b](z[v = y])",
    "a choice that is none": CLASSES
    + "param mode : {hard, soft} = hard\nminimize\n  loss : mean[b](nll) if mode == ‹E401›sft else 0",
    "a choice in arithmetic": CLASSES
    + "param mode : {hard, soft} = hard\nminimize\n  loss : ‹E207›mode * mean[b](nll)",
    # axes
    "no reduction": TOKENS + "minimize\n  loss : ‹E312›nll",
    "one axis not reduced": TOKENS + "minimize\n  loss : ‹E312›mean[t where mask](nll)",
    "an axis reduced twice": TOKENS + "minimize\n  loss : mean[b, ‹E304›t](mean[t where mask](nll))",
    "an axis of the scores in a loss": CLASSES + "minimize\n  loss : mean[b, ‹E304›v](nll)",
    "a selection from nothing": CLASSES + "minimize\n  loss : mean[b](nll[‹E304›v = labels])",
    "an axis named twice": CLASSES + "minimize\n  loss : sum[b, ‹E302›b](nll)",
    "a square of one axis": "axis b : batch\naxis d\ninput c : ‹E302›real[b, d, d]\nminimize\n  loss : mean[b](c[d = 0])",
    "a slice without a new axis": TOKENS + "minimize\n  loss : mean[b, t](nll[‹E306›t = 0..4])",
    "slices of two lengths": TOKENS + "minimize\n  loss : mean[b, k](nll[t -> k = 0..3] - nll[‹E313›t -> k = 0..4])",
    "two axes for one": "use std.divergence (kl)\naxis b : batch\ninput p : logits[b, v]\ninput q : logits[b, w]\n"
    + "minimize\n  loss : mean[b](‹E309›kl(p, q))",
    "an axis that cannot be found": "use std.ce (entropy)\naxis b : batch\naxis k\ninput z : real[b, k]\n"
    + "minimize\n  loss : mean[b](‹E309›entropy(z))",
    "an axis of all pairs left over": "use std.settings.embeddings\nminimize\n  loss : ‹E312›mean[b](s)",
    "a term that lets an axis out": "use std.settings.embeddings\nterm pairs(x : real[b, d]) = ‹E310›dot[d](x, x[b -> k])\n"
    + "minimize\n  loss : mean[b, k](pairs(x)) + mean[b, d](y)",
    # domains
    "a negative temperature": PAIRS
    + "use std.preference (dpo)\nparam beta : positive = ‹E401›-1\nminimize\n  loss : mean[pair](dpo(beta = beta))",
    "smoothing above 1": CLASSES
    + "use std.ce (label_smoothing)\nminimize\n  loss : mean[b](label_smoothing(eps = ‹E401›10))",
    "half a number": CLASSES + "param n : int = ‹E401›2.5\nminimize\n  loss : n * mean[b](nll)",
    "bounds in reverse": CLASSES + "param a : ‹E407›real in [1, 0] = 1\nminimize\n  loss : a * mean[b](nll)",
    "a parameter of the batch": CLASSES + "param a : real = ‹E402›mean[b](nll)\nminimize\n  loss : a * mean[b](nll)",
    "division by nothing": CLASSES + "minimize\n  loss : mean[b](nll) / ‹E403›0",
    "a tower of powers": CLASSES + "minimize\n  loss : mean[b](nll) * ‹E404›9^9^9",
    "a logarithm of a negative number": CLASSES + "minimize\n  loss : mean[b](log(‹E405›-exp(nll) - 1))",
    # signs, brackets, layout
    "no comma between axes": TOKENS + "minimize\n  loss : mean[b ‹E001›t where mask](nll)",
    "no comma between arguments": CLASSES + "use std.ce (ce)\nminimize\n  loss : mean[b](ce(logits ‹E001›labels))",
    "no sign for a product": CLASSES + "minimize\n  loss : 2 ‹E001›mean[b](nll)",
    "a bracket open": TOKENS
    + "minimize\n  loss : mean‹E003›[b, t where mask(nll)\nmonitor\n  nats : mean[b, t where mask](nll)",
    "a bracket too many": TOKENS + "minimize\n  loss : mean[b, t where mask](nll)‹E004›)",
    "an index as in Python": CLASSES + "minimize\n  loss : mean[b](logits[‹E001›0])",
    "a slice as in Python": CLASSES + "minimize\n  loss : mean[b](logits[‹E001›:, 0])",
    "a power as in Python": CLASSES + "minimize\n  loss : mean[b](nll ‹E014›** 2)",
    "and as in C": TOKENS + "minimize\n  loss : mean[b, t where mask ‹E014›&& labels >= 0](nll)",
    "an equals for a comparison": TOKENS + "minimize\n  loss : mean[b, t where labels ‹E014›= 3](nll)",
    "an equals for a colon": TOKENS + "minimize\n  loss ‹E014›= mean[b, t where mask](nll)",
    "where behind the parentheses": TOKENS + "minimize\n  loss : mean[b, t](nll) ‹E001›where mask",
    "a condition for an axis": TOKENS + "minimize\n  loss : mean[‹E301›mask](nll)",
    "positions named twice": "‹E102›axis side = {a, a}\ninput x : real[side]\nminimize\n  loss : sum[side](x)",
    "a sign that is 0": ROWS + "param s : sign = ‹E401›0\nminimize\n  loss : s * mean[b](x)",
    "an index in parentheses": TOKENS + "minimize\n  loss : mean[b, t](nll * ‹E306›index(t))",
    "a usual reduction over nothing": CLASSES + "reduce mean[‹E301›q]\nminimize\n  loss : mean[b](nll)",
    "a setting of the file, broken": "setting mine\n  axis b : batch\n  input x : real[b]\n  let y = ‹E101›z\n  reduce mean[b]",
    "a state that begins with the batch": ROWS
    + "state c : real = ‹E402›mean[b](x) then 0.9 * c\nminimize\n  loss : c * mean[b](x)",
    "a constraint without a bound": CLASSES + "minimize\n  loss : mean[b](nll)\nsubject to fit : ‹E503›mean[b](nll)",
    "a law about nothing": 'term f(x : real) = x\nlaw "self" : f(‹E101›u) == f(x) for x',
    "where as a function": TOKENS + "minimize\n  loss : mean[b, t](‹E001›where(mask, nll, 0))",
    "if without else": TOKENS + "minimize\n  loss : mean[b, t](nll if mask‹E001›)",
    "a term without a name": TOKENS + "minimize\n  mean‹E001›[b, t where mask](nll)",
    "a parameter without a kind": CLASSES + "param beta ‹E001›= 0.1\nminimize\n  loss : beta * mean[b](nll)",
    "two parameters on a line": CLASSES
    + "param a : real = 1‹E001›, c : real = 2\nminimize\n  loss : a * c * mean[b](nll)",
    "British spelling": CLASSES + "‹E012›minimise\n  loss : mean[b](nll)",
    "an import of Python": "‹E012›from std.settings import classes\nminimize\n  loss : mean[b](nll)",
    "a reserved word as a name": CLASSES + "let ‹E013›by = 2\nminimize\n  loss : mean[b](nll)",
    "uneven entries": CLASSES + "minimize\n    loss : mean[b](nll)\n  ‹E011›more : mean[b](nll^2)",
    "a tab": CLASSES + "minimize\n‹E010›\tloss : mean[b](nll)",
    "a number with a bare point": CLASSES + "minimize\n  loss : ‹E006›.5 * mean[b](nll)",
    "a list for positions": "axis side = ‹E001›[a, c]\ninput x : real[side]\nminimize\n  loss : sum[side](x)",
    "only monitors": "objective ‹E501›watch\n" + CLASSES + "monitor\n  nats : mean[b](nll)",
    # unused names
    "a parameter that nothing reads": CLASSES + "param ‹W101›gamma : nonneg = 2\nminimize\n  loss : mean[b](nll)",
    "an import that nothing reads": CLASSES + "use std.ce (‹W101›focal)\nminimize\n  loss : mean[b](nll)",
    "an axis that nothing has": ROWS + "axis ‹W101›q\nminimize\n  loss : mean[b](x)",
    "a tensor that nothing reads": ROWS + "data ‹W101›y : real[b]\nminimize\n  loss : mean[b](x)",
}

YAML = "use:\n  - std.settings.classes\n"

BROKEN_YAML = {
    "a key mistyped": YAML + "‹E023›minimise:\n  loss: mean[b](nll)",
    "a key of a run file": YAML + "‹E023›optimiser: adam\nminimize:\n  loss: mean[b](nll)",
    "a run file": "‹E023›model:\n  kind: linear\noptimiser:\n  lr: 0.1\nbatch: 8",
    "a line too deep": YAML + "minimize:\n  loss: mean[b](nll)\n   more‹E020›: mean[b](nll^2)",
    "a line not deep enough": YAML + "minimize:\n  loss: mean[b](nll)\n ‹E020›more: mean[b](nll)",
    "a key twice": YAML + "minimize:\n  loss: mean[b](nll)\n  ‹E022›loss: mean[b](nll^2)",
    "a section twice": YAML + "minimize:\n  loss: mean[b](nll)\n‹E022›minimize:\n  more: mean[b](nll^2)",
    "an anchor and its alias": YAML + "minimize:\n  loss: ‹E021›&x mean[b](nll)\n  more: ‹E021›*x",
    "a tag": YAML + "minimize:\n  loss: ‹E021›!!str mean[b](nll)",
    "a value that begins with a bracket": YAML + "let:\n  z: [b]‹E020›(nll)\nminimize:\n  loss: mean[b](nll)",
    "a list of terms": YAML + "minimize:\n  ‹E024›- mean[b](nll)",
    "a mapping for a text": YAML + "params:\n  beta:\n    ‹E024›kind: positive\nminimize:\n  loss: mean[b](nll)",
    "uses in one text": "use: ‹E024›std.settings.classes\nminimize:\n  loss: mean[b](nll)",
    "a name in a plain text": YAML + "minimize:\n  loss: mean[b](‹E101›nlll)",
    "a name in a folded text": YAML + "minimize:\n  loss: >\n    mean[b](nll)\n    + 2 * ‹E101›bta",
    "a name in a quoted text": YAML + 'minimize:\n  loss: "mean[b](nll) + ‹E101›bta"',
    "a sign in a text": YAML + "minimize:\n  loss: mean[b](nll ‹E014›** 2)",
    "a domain": YAML + "params:\n  beta: positive = ‹E401›-1\nminimize:\n  loss: beta * mean[b](nll)",
    "a parameter without its kind": YAML + "params:\n  beta: ‹E001›0.1\nminimize:\n  loss: beta * mean[b](nll)",
}

_MARK = re.compile(r"‹([EW]\d{3})›")


def unmarked(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """The program, and the line, column and code of each mark in it."""
    expected: list[tuple[int, int, str]] = []
    plain = ""
    for piece in re.split(r"(‹[EW]\d{3}›)", text):
        if mark := _MARK.fullmatch(piece):
            expected.append((plain.count("\n") + 1, len(plain) - plain.rfind("\n"), mark[1]))
        else:
            plain += piece
    return plain, expected


def check(name: str, marked: str) -> None:
    text, expected = unmarked(marked + "\n")
    found = check_source(Source(name, text)).problems.sorted()
    places = [(*problem.span.source.position(problem.span.start), problem.code) for problem in found]
    assert places == expected, "\n\n".join(render_text(problem) for problem in found)
    for problem in found:
        assert problem.span.source.name == name
        assert problem.message[0] in "`\"'" or problem.message[0].islower()
        assert not problem.message.endswith(".")


@pytest.mark.parametrize("title", BROKEN)
def test_text(title: str) -> None:
    check("broken.loss", BROKEN[title])


@pytest.mark.parametrize("title", BROKEN_YAML)
def test_yaml(title: str) -> None:
    check("broken.yaml", BROKEN_YAML[title])
