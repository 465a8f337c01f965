"""PostgreSQL: the embedded server, connections, migrations and what its errors mean."""
