"""From syntax to core: every expression becomes a `Value`, a node with a kind and a presence, or a reported problem.

| modules | what they do |
|---|---|
| `context` | what one check shares (`Session`), and what one expression can see and report (`Context`) |
| `expressions` | decides by its form which rules apply to an expression |
| `arithmetic` | operators, comparisons, choices, elementwise functions |
| `reductions`, `brackets`, `along` | `mean[b where m](x)`; what a bracket says; `cumsum[t](x)`, `shift`, `sort` |
| `selections`, `places` | `x[v = y]`, slices, renamed axes; positions that cannot lie outside an axis |
| `linear` | `dot`, `norm`, `cov`, `logdet`, `sinkhorn`, … over named axes |
| `special`, `run_values` | `sg`, `fill`, `total`, `index`, `size`; `step`, `ramp`, draws |
| `searches`, `folds`, `linear_steps`, `variables` | calls that bind a variable: `grad`, `worst`, `root`, `fold` |
| `models`, `externs` | calls of the caller's networks and functions |
| `groups`, `leaves` | groups of weights, as a whole and tensor by tensor |
| `terms`, `derivatives` | calls of terms; `f'(u)` |
| `binding`, `signature`, `misfit` | their axes and arguments, and what to say where these do not fit |
| `types`, `declarations`, `laws` | types as written against kinds; declared names; claims |
| `unknown` | names that stand for nothing, and what was probably meant |
"""
