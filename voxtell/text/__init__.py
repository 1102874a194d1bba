"""Turns prompts into embeddings (P, E), one row of E numbers for each of P prompts.

`encoders` has the published text model and the bank of embeddings that is asked before it; `lexical` has the word list
of the bundled model. All satisfy `TextEncoder`.
"""
