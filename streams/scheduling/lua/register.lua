#!lua
-- Registers the schedules of a processor, so that they can be listed, paused and run where their code is not.
-- KEYS  1 schedules  2 slots     ARGV  per schedule: name, definition (JSON), timing
-- Returns how many were started anew.
-- Invariant: a schedule that is new, or whose timing has changed, begins now: slots of an earlier timing, or of a time
-- without the schedule, are not missed slots of this one. A schedule that has not changed keeps its last slot.
-- include redis/append.lua

must_be('hash', KEYS[1])
must_be('hash', KEYS[2])
local now, started = now_ms(), 0
for at = 1, #ARGV, 3 do
  local name, definition, timing = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  redis.call('HSET', KEYS[1], name, definition)
  local last = redis.call('HGET', KEYS[2], name) or ''
  if #last > 15 or not string.find(last, '^%d+$') or redis.call('HGET', KEYS[2], name .. ':timing') ~= timing then
    redis.call('HSET', KEYS[2], name, now, name .. ':timing', timing)
    started = started + 1
  end
end
return started
