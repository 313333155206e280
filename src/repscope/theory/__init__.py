"""Known answers: planted representations with the truth beside them."""
