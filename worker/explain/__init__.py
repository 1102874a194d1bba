"""Why a series was segmented or not: a dry run of the protocols, and the history of a study.

Both only read. `protocols explain` prints what they return.
"""
