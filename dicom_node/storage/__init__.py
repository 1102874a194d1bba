"""The disk under the store: durable files, unfinished ones, and who is writing."""
