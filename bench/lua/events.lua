-- Product events, one in each request, or as many as the first argument says; what came of it as JSON on the last line.

local products = 10000
local sent = 0
local bodies = {}

local function event(n)
  return string.format('{"product_id": "p%d", "price": %d.99, "stock": %d}', n % products, n % 900, n % 1000)
end

function init(args)
  local size = tonumber(args[1] or "1")
  wrk.method = "POST"
  if size == 1 then
    wrk.headers["Content-Type"] = "application/json"
    for n = 1, products do
      bodies[n] = wrk.format(nil, "/v1/events", nil, event(n))
    end
    return
  end
  wrk.headers["Content-Type"] = "application/x-ndjson"
  for n = 1, 100 do
    local lines = {}
    for m = 1, size do
      lines[m] = event(n * size + m)
    end
    bodies[n] = wrk.format(nil, "/v1/events/batch", nil, table.concat(lines, "\n"))
  end
end

function request()
  sent = sent + 1
  return bodies[sent % #bodies + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
