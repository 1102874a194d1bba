"""What comes in over C-STORE and STOW-RS, from the first byte to the store; both take the same way (`reception`)."""
