"""Which volume of a study comes before which: facts from the headers, and the order that follows from them."""
