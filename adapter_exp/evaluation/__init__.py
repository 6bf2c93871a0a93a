"""Generation, label scoring, statistics and gates."""
