"""`voxtell-dicom demo`: one CT through all of the node, and what is known about that CT."""
