-- Sends the bodies of a file in turn and prints one line of JSON: `wrk … -s wrk.lua URL -- FILE BODY_BYTES`.
local requests = {}
local turn = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local size = tonumber(arguments[2])
  local body = file:read(size)
  while body and #body == size do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
    body = file:read(size)
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    'RESULT {"finished":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_us":%d,"p99_us":%d}',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
