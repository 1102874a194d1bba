"""What keeps a node running for months: leases, locks, retries, storage commitment, and room on the disk."""
