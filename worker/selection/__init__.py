"""Which volumes of a study are segmented, for which protocol, and why the others are not."""
