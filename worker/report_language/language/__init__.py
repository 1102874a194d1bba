"""Words and rules of a report language: tokens, lexicon, patterns, sections and sentences."""
