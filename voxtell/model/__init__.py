"""The VoxTell network and its files: layers, plans and checkpoint."""
