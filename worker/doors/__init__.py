"""Where the node meets others besides the listener: peers, reports, STOW-RS."""
