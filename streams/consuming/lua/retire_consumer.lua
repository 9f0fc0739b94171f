#!lua flags=allow-oom
-- Removes a consumer that is gone, unless it still holds something.
-- KEYS  1 consumers  2.. source streams, and last the ledger
-- ARGV  1 group  2 consumer  3 only if silent for this many ms (0: in any case)
-- Returns 1 when it was removed, 0 when it is alive or holds something.
-- Invariant: XGROUP DELCONSUMER destroys what is pending without a word, so it is called only when nothing is.

local group, consumer, silent = ARGV[1], ARGV[2], tonumber(ARGV[3])
local beat = redis.pcall('ZSCORE', KEYS[1], consumer)
if type(beat) ~= 'string' then beat = nil end
if silent > 0 and beat then
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(beat) < silent then return 0 end
end
for i = 2, #KEYS - 1 do
  local pending = redis.pcall('XPENDING', KEYS[i], group, '-', '+', 1, consumer)
  if not pending.err and #pending > 0 then return 0 end
end
for i = 2, #KEYS - 1 do redis.pcall('XGROUP', 'DELCONSUMER', KEYS[i], group, consumer) end
redis.pcall('ZREM', KEYS[1], consumer)
-- When the group was last alive: a consumer that is gone leaves no heartbeat.
local seen = beat and math.floor(tonumber(beat) / 1000) or 0
if silent == 0 then seen = tonumber(redis.call('TIME')[1]) end
local known = redis.pcall('HGET', KEYS[#KEYS], 'seen ' .. group)
if seen > (type(known) == 'string' and tonumber(known) or 0) and seen < 9007199254740991 then
  redis.pcall('HSET', KEYS[#KEYS], 'seen ' .. group, string.format('%.0f', seen))
end
return 1
