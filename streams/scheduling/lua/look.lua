#!lua flags=no-writes
-- Reads the state of schedules, with Redis' clock.
-- KEYS  1 slots     ARGV  names
-- Returns {ms since 1970, {last slot decided ('': unknown), 1 if paused, ms of a requested run or ''}, ...}.
-- Invariant: changes nothing.

local time = redis.call('TIME')
local found = {time[1] * 1000 + math.floor(time[2] / 1000)}
for i = 1, #ARGV do
  local name = ARGV[i]
  local state = redis.call('HMGET', KEYS[1], name, name .. ':paused', name .. ':run')
  found[#found + 1] = {state[1] or '', state[2] and 1 or 0, state[3] or ''}
end
return found
