"""How well the extracted prompts agree with labelled reports."""
