"""One file per table or figure of a paper: claim, recipes, expectation, predicate."""
