#!lua flags=allow-oom
-- Makes due now what would be due later.
-- KEYS  1 due     ARGV  1.. waiting ids
-- Returns how many were brought forward.
-- Invariant: what does not wait any more (it was moved or cancelled meanwhile) is not added again, and nothing is made
-- due later than it was.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for i = 1, #ARGV do
  count = count + redis.call('ZADD', KEYS[1], 'XX', 'LT', 'CH', now, ARGV[i])
end
return count
