"""Simplification: a core graph in one form, towards the primitives that stay finite.

`simplify(program)` rewrites every graph of a program bottom-up; `Simplifier()(node)` a single graph. Rules are data
(`rules.py`), matched on the hash-consed graph with sums and products taken up to order and association; what is arithmetic
and not a choice (like terms, equal factors, exact numbers, masks, missing axes) is a normal form (`arithmetic.py`,
`masks.py`, `shapes.py`). Rules fire until none does, up to a bound on the number of steps.

The normal form, on which later stages rely:

- *Sums* are flat: `add(number, terms…)`, the number first and the rest in the order of their digests. A term is
  `mul(number, factors…)`, the number left out when it is 1; equal terms are merged, a number times a sum is multiplied
  out, and terms that differ by a scalar factor (parameters, sizes) share it: `(1 - e) x + e x` is `x`.
- *Products* are `mul(number, factors…)` or `mul(number, div(above, below))`: at most one division, the number outside, sums
  among several factors free of numeric content with the sign of their first term, equal bases one `pow`. x/x is 1 only
  where x is never 0. `x^0.5` is `sqrt`, an integer power of a product is distributed.
- *Exponentials* (`exp`, `softmax`, `sigmoid`, `normcdf`, and selections of them): a product holds at most one, none is
  raised to a power or divided by. `exp(log_softmax(z))` is `softmax(z)`, `exp(-softplus(x))` is `sigmoid(-x)`; other
  products of them are `exp` of a sum. One minus an exponential is `-expm1` of its log (`1 - sigmoid(x)` is `sigmoid(-x)`).
- *Logs*: `log` remains only on values that are no sums, products or complements of exponentials. `logsigmoid(x)` is
  `-softplus(-x)`; `log(1 - p)` of a log-probability is `log1mexp`. A factor that can be 0 before a log is `xlogy`, after
  the logs of probabilities that are no exponentials were split.
- *Cross-entropy* is `-1 * Select(log_softmax[v](z), v, y)`, whatever spelling it had: `logsumexp(z) - z[y]` becomes it
  (without a mask on the normaliser), and so does the log of a ratio of exps. A lone `logsumexp` stays, and
  `z[y] - log_softmax(z)[y]` becomes it. Differences of two read log-probabilities are differences of scores.
- *Masked distributions*: `softmax[v where m]` is 0 outside of m, so its log is `log_softmax[v where m](z) if m else -inf`;
  `log_softmax[v where m]` alone is absent there. Such choices come first in their expression (`(k x if c else -inf)`), an
  exp of one is `exp(x) if c else 0`, and a factor that can be 0 is taken inside (0 log 0 is 0). Each branch of a choice
  knows that it is taken.
- *Selections* stand below elementwise functions, next to `log_softmax`, a reduction or an input.
- *Reductions* name their axes sorted and only such as are there. Out of `sum` and `mean` come numbers, steady scalars, and,
  where no mask has to hide them, factors without the reduced axes; two of them over the same entries (axes, mask, groups)
  with rational weights become one; factors common to all summands of a body are pulled together. A masked choice inside
  becomes part of the mask, `x if c else -inf` in a softmax or logsumexp too.
- *Masks*: `and`, `or` flat (nested to the left), sorted, without repeats, absorbed; no double negation; constants decided.
- `StopGrad` is opaque: nothing is merged across it.

No rule moves an expression out of a mask that hides it, and every rule keeps the axes of what it rewrites.
"""

from lossc.compiler.simplify.engine import Record, Simplifier
from lossc.compiler.simplify.program import Fired, Simplified, roots, simplify
from lossc.compiler.simplify.rules import RULES, Rule

__all__ = ["RULES", "Fired", "Record", "Rule", "Simplified", "Simplifier", "roots", "simplify"]
