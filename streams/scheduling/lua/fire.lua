#!lua
-- Decides one slot of a schedule, once: publishes the events made for it, or passes it.
-- KEYS  1 slots  2 groups  3.. streams, and last the ledger
-- ARGV  1 schedule  2 slot in ms since 1970  3 `slot`, or `run` for a run requested by hand  4 slots missed with it
--       5 longest a run may have waited in ms  6 number of fields  7.. field names, then per message:
--       stream (index from 1), one value per field
-- Returns {1, 0} when this call decided it, {0, 0} when it was decided before (or is paused, or unknown),
-- {-1, ms} when it is still in the future.
-- Invariant: of any number of schedulers and repetitions one decides a slot: a slot that is not after the last one
-- changes nothing. Redis' clock decides whether it has come. The events and the last slot are written in one
-- script, the events first. `allow-oom` is absent on purpose: a full server refuses, and the slot is fired later.
-- include redis/append.lua
-- include redis/ledger.lua

local name, slot, run = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'run'
must_be('hash', KEYS[1])
for i = 3, #KEYS - 1 do must_be('stream', KEYS[i]) end
local now = now_ms()
local state = redis.call('HMGET', KEYS[1], name, name .. ':paused', name .. ':run')
if not state[1] then return {0, 0} end
if run then
  if state[3] ~= ARGV[2] then return {0, 0} end
  if now - slot > tonumber(ARGV[5]) then
    redis.call('HDEL', KEYS[1], name .. ':run')
    return {0, 0}
  end
else
  if state[2] or slot <= (tonumber(state[1]) or 0) then return {0, 0} end
  if slot > now then return {-1, slot - now} end
end

local count = tonumber(ARGV[6])
local fields = {}
for i = 1, count do fields[2 * i - 1] = ARGV[6 + i] end
local at, published = 7 + count, 0
while at <= #ARGV do
  for i = 1, count do fields[2 * i] = ARGV[at + i] end
  append(KEYS[2], KEYS[2 + tonumber(ARGV[at])], fields)
  published = published + 1
  at = at + 1 + count
end

ledger_add_published(added, created)
write_ledger()
if run then
  redis.call('HSET', KEYS[1], name .. ':ran', ARGV[2] .. ' ' .. (ARGV[4] == '0' and published or -1))
  redis.call('HDEL', KEYS[1], name .. ':run')
else
  if ARGV[4] ~= '0' then redis.pcall('HINCRBY', KEYS[1], name .. ':missed', ARGV[4]) end
  if published > 0 then redis.call('HSET', KEYS[1], name .. ':fired', ARGV[2]) end
  redis.call('HSET', KEYS[1], name, ARGV[2])
end
return {1, 0}
