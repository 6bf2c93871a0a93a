"""Tasks: data, prompts, answers and scores behind one protocol."""
