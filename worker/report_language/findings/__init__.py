"""Findings of a sentence: their phrase, place and context, and the prompt that they become."""
