"""The words of a language, and a report cut into them.

    data_files | sentences | chunks > lexicon | rules > patterns > tokens

`lexicon.<language>.toml` and `rules.<language>.yaml` hold every word; the code holds none. docs/reference/reports.md
describes their fields, docs/contributing.md how a language is added.
"""
