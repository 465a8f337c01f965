"""The queue wakes workers; what is true of a job stands in the ledger. Procrastinate's tables in the schema `penstock`.

`penstock.queue.consumer` imports Procrastinate itself, which costs half a second; what the command line needs does not.
"""

from penstock.queue.service import QUEUE_NAME, TASK_NAME, VERSION, Queue

__all__ = ["QUEUE_NAME", "TASK_NAME", "VERSION", "Queue"]
