"""From syntax to core: every expression becomes a node with a kind and a presence, or a reported problem.

`context.py` holds what one check shares; `expressions.py` dispatches on the form of an expression; the other files
each hold the rules of one family of forms.
"""
