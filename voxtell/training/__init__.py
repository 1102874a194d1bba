"""Training and fine-tuning of the network on volumes and contours that a site has: `python -m voxtell.training
--help`."""
