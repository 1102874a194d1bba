"""Radiology reports that reached the node: kept, linked to their study, read when a protocol asks."""
