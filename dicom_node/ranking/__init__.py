"""Decides which volume of a study comes first: `facts` reads headers, `order` ranks by a protocol's preferences."""
