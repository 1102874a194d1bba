"""Array in, masks out: the free-text-prompted 3-D segmentation network."""
