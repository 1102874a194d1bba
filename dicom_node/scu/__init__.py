"""The node as service class user: associations that it opens, C-STORE, STOW-RS, C-FIND and C-ECHO to others."""
