"""The commands of `voxtell-dicom`, a module per group.

The docstring of a command and the `help` of its parameters are texts for users: `--help` prints them, and
docs/reference/command-line.md is made of them.
"""
