"""The queue: `broker` puts job ids on it, `embedded_server` runs one, `celery_worker` takes from it.

It holds nothing that the ledger does not know, so it may be lost at any moment.
"""
