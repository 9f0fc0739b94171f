"""Mutation: small faults are put into the code one at a time, and the tests that ought to notice them are run.

    make mutate SEED=7                      60 faults, drawn by the seed; ends with 1 when fewer than 90 % are noticed
    make mutate SEED=7 ARGS="--faults 20"   fewer
    make mutate ARGS="--only streams/breaker.py --faults 100"   in one file, or in those whose path begins so
    make mutate ARGS="--record"             records anew which test runs which line

The faults (`faults.py`) are what people get wrong: a comparison with its edge on the wrong side, `and` for `or`, a
condition the other way round, a statement left out, a number one too large, two arguments exchanged; in Lua too.
Left out is what no test is about: log lines, texts, annotations, `__repr__`, how a report looks, the demo. So is what
`tests/faults/soak/mutants.py` breaks already, and what `equivalents.py` names: changes that no test can notice, each
with the reason.

Which tests are run (`selection.py`): those that executed the changed line when all of them were recorded with coverage
(once, some ten minutes, kept in `.mutation/`), quickest and most specific first, up to a budget of seconds for each
fault. Of a file that was changed since, those that executed any of it; record anew after large changes. With
`ARGS=--guess`, where nothing is recorded, they are chosen by their names. Each fault is in a copy of the source, two
copies at a time. A test that fails is run once on the code as it is: one that fails by itself has noticed nothing.

What was not noticed is printed as a diff. It is a missing test, code that can go, or an equivalent.
"""
