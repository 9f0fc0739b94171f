"""Mutation: small faults are put into the code one at a time, and the tests that ought to notice them are run.

    make mutate SEED=7                      60 faults, drawn by the seed; ends with 1 when fewer than 90 % are noticed
    make mutate SEED=7 ARGS="--faults 20"   fewer
    make mutate ARGS="--only streams/executing/circuit_breaker.py --faults 100"   in one file, or in those whose path
    begins so make mutate SEED=7 ARGS=--again         those that no test noticed the last time with this seed make
    mutate ARGS="--record"             records anew which test runs which line

The faults (`faults.py`) are what people get wrong: a comparison with its edge on the wrong side, `and` for `or`, a
condition the other way round, a statement left out, a number one too large, two arguments exchanged; in Lua too.

Left out, because no test is about it or another tool checks it:

- log lines of `log`, the texts of messages and of options' help, `__repr__`, `__str__`, and how a workbook, a drawing
  and a printed report look: tests that repeat a text notice each change of it and no fault;
- annotations, bases, imports, `TYPE_CHECKING`, `__slots__`, `strict=`, `slots=`, `frozen=`: mypy and the interpreter;
- numbers above ten in Python, and the numbers that are arguments or defaults: measures of comfort, such as a page's
  size;
- what is inside an f-string: Python 3.11 does not know the places there;
- the demo, the example events, the migrations, and `streams/testing`, which is a tool of tests itself;
- what `tests/faults/soak/mutants.py` breaks already, and what `equivalents.py` names: changes that no test can notice,
  each with the reason.

Which tests are run (`selection.py`): those that executed the changed line when all of them were recorded with coverage
(once, some ten minutes on an idle machine, kept in `.mutation/`), quickest and most specific first, in batches, up to a
budget of seconds for each fault. Test files that are new or changed since are recorded by the next run. Of a source
file that was changed since, all tests that executed any of it; record anew after large changes. With `ARGS=--guess`
nothing is recorded, and tests are chosen by their names. Not run are the slow tests, the soak, the examples, the
documentation's tests, and the older Redis: what only these notice counts as not noticed.

Each fault is in a copy of the source, two copies at a time (`trial.py`). A test has noticed a fault when it fails on
it, fails on it again when it is run alone, and passes on the code as it is: a test that is flaky, or slow because the
machine is busy, notices nothing. A hang counts as a failure of its test after 20 s; how many there were is printed.

What was not noticed is printed as a diff. It is a missing test, code that can go, a bug, or an equivalent.
"""
