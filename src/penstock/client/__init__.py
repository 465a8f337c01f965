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
"""

from penstock.client.server import Server
from penstock.client.wire import Health

__all__ = ["Health", "Server"]
