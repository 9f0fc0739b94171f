#!lua
-- Enters the schedules of a processor, so that they can be listed, paused and run where their code is not.
-- KEYS  1 schedules  2 slots     ARGV  per schedule: name, definition (JSON), timing
-- Returns how many begin anew.
-- Invariant: a schedule that is new, or whose timing has changed, begins now: what an earlier timing, or nobody, did
-- in the past is no missed slot of this one. A schedule that is known as it is keeps its last slot.
-- include redis/append.lua

must_be('hash', KEYS[1])
must_be('hash', KEYS[2])
local now, anew = now_ms(), 0
for at = 1, #ARGV, 3 do
  local name, definition, timing = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  redis.call('HSET', KEYS[1], name, definition)
  local last = redis.call('HGET', KEYS[2], name) or ''
  if #last > 15 or not string.find(last, '^%d+$') or redis.call('HGET', KEYS[2], name .. ':timing') ~= timing then
    redis.call('HSET', KEYS[2], name, now, name .. ':timing', timing)
    anew = anew + 1
  end
end
return anew
