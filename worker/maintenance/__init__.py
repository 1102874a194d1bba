"""What keeps a node going for months: leases, retries, the promises of a PACS, room on the disk."""
