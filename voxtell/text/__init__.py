"""Text encoders: prompts become vectors."""
