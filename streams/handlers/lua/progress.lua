#!lua
-- Keeps how far the handling of an event has come in one group, and publishes it to the event's channel.
-- KEYS  1 progress of the event, which is also the channel
-- ARGV  1 group  2 delivery (the consumer that holds it, and its number)  3 1 for the first report of this delivery
--       4 TTL in ms  5 the report (JSON)
-- Returns 1, or 0 when a later delivery has begun to report.
-- Invariant: the delivery that began to report last is the one that is shown: one that has lost its lease, and does not
-- know it yet, changes nothing.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  error({err = 'WRONGTYPE ' .. KEYS[1] .. ' holds a ' .. kind .. ', not a hash'})
end
local by = 'by ' .. ARGV[1]
local holder = redis.call('HGET', KEYS[1], by)
if holder and holder ~= ARGV[2] and ARGV[3] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5], by, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', KEYS[1], ARGV[1] .. ' ' .. ARGV[5])
return 1
