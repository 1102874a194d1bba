"""The queue: job ids through Redis and Celery, the embedded server, the processes of a Celery worker."""
