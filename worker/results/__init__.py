"""From masks to the objects that each destination takes, and what is remarkable about them."""
