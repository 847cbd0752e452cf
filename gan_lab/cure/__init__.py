"""The cure: from a run that failed to a recipe that holds on fresh seeds. `page` shows what was found."""
