"""The HTTP API: requests in, the services' answers out. It holds no rules and no SQL.

app          the parts put together
conventions  what every request meets first: request id, prefixes, limits, headers, the access line
problems     errors as problem+json, and as the document tells of them
parameters   what a request may ask: ids, query parameters, cursors
views        how jobs and resources are shown
coding       which Content-Encoding an answer gets
event_door   POST /v1/events by a short road around Litestar; event_batches for many at once
patience     a limit on many short waits
tally, metrics  what is counted, and how it is shown
handing      what a thread makes, at the pace of the client that takes it
jobs, reports, events, resources, records, operations, document, receiving, exports, export_streams, storage_routes, product_events,
dead_letters
             the routes
"""
