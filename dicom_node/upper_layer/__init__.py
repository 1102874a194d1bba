"""Everything that reaches into pynetdicom's private parts: an event-driven upper layer (PS3.8)."""
