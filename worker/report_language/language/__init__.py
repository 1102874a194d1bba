"""The words of a language, and a report cut into them.

    tokens       text -> words, numbers and marks
    sentences    tokens -> sentences with their section and title
    chunks       a sentence -> terms of the lexicon, measures, numbers, other words
    lexicon, rules, patterns, data_files    the words and rules, read from two data files

`lexicon.<language>.toml` and `rules.<language>.yaml` hold every word; the code holds none. docs/reference/reports.md
describes their fields, docs/contributing.md how a language is added.
"""
