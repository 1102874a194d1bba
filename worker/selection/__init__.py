"""Which volumes of a study are segmented, for which protocol, and why the others are not.

`completeness` says when a series may be asked about, `study_volumes` what volumes it holds, `choose` what a protocol
says to them, `select` turns that into decisions and jobs of the ledger. The intake thread calls them; the command line
uses `choose` and `study_volumes` on folders.
"""
