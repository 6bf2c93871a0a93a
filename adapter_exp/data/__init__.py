"""Everything between raw corpora and token ids."""
