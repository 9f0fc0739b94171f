#!lua flags=allow-oom
-- Renews the leases of what a consumer holds, and its heartbeat.
-- KEYS  1 consumers  2.. source streams
-- ARGV  1 group  2 consumer, then per source stream in the order of KEYS: number of deliveries, and per delivery:
--       entry id, delivery count
-- Returns the positions (from 1, in the order given) of the deliveries that are not this consumer's any more.
-- Invariant: only what (consumer, delivery count) still own is touched. A bare XCLAIM with min-idle 0 would steal an
-- entry back from the consumer that reclaimed it; without JUSTID it would count as a delivery. A key of heartbeats that
-- is damaged costs the heartbeat, and no lease.

local group, consumer = ARGV[1], ARGV[2]
local time = redis.call('TIME')
redis.pcall('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), consumer)

local at, position, lost = 3, 0, {}
for k = 2, #KEYS do
  local count = tonumber(ARGV[at])
  at = at + 1
  local owned, mine = {}, {}
  local pending = redis.pcall('XPENDING', KEYS[k], group, '-', '+', 100000, consumer)
  if not pending.err then
    for i = 1, #pending do owned[pending[i][1]] = pending[i][4] end
  end
  for _ = 1, count do
    position = position + 1
    if owned[ARGV[at]] == tonumber(ARGV[at + 1]) then
      mine[#mine + 1] = ARGV[at]
    else
      lost[#lost + 1] = position
    end
    at = at + 2
  end
  for from = 1, #mine, 1000 do
    local ids = {unpack(mine, from, math.min(from + 999, #mine))}
    ids[#ids + 1] = 'JUSTID'
    redis.call('XCLAIM', KEYS[k], group, consumer, 0, unpack(ids))
  end
end
return lost
