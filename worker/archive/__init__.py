"""Archives through the node: how a study of a run ends (`outcome`), and how fast a run may go (`limits`).

Pure functions: they read no clock, no disk and no ledger.
"""
