"""A Penstock server, spoken to from Python.

::

    with Server("http://127.0.0.1:8080") as server:
        job = server.import_file("users", Path("users.csv"))
        for job in server.events(job.job_id):
            print(f"{job.progress:.0%}")
        for problem in server.errors(job.job_id):
            print(problem["row"], problem["message"])
        with server.export("users", filters={"role": "admin"}) as pieces:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
        for sent in server.send_events({"product_id": "abc123", "price": price, "stock": 100} for price in (49, 50)):
            print(sent.index, sent.status)
"""

from penstock.client.server import Server
from penstock.client.wire import DeadLetter, EventStatus, Health, SentEvent

__all__ = ["DeadLetter", "EventStatus", "Health", "SentEvent", "Server"]
