"""The steps of a study: intake, segmentation, delivery; and the same without queue or network (offline)."""
