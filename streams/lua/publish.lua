#!lua
-- Publishes one batch of one publisher, once.
-- KEYS  1 producer  2 due  3 waiting  4 groups  5.. streams
-- ARGV  1 batch sequence  2 producer ttl ms  3 1 if some message waits  4 number of fields  5.. field names, then per message:
--       stream (index from 1), when ('' now, '+N' in N ms, '@N' at N ms since 1970), one value per field
-- Returns {1 if this batch was added now, 0 if it was added before}.
-- Invariant: a batch with a sequence not above the producer's last one changes nothing, so a publisher whose reply
-- was lost sends the same batch again. The flag `allow-oom` is absent on purpose: a full server refuses publishers.
-- include append.lua

local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local sequence = tonumber(ARGV[1])
if sequence <= last then return 0 end
for i = 5, #KEYS do must_be('stream', KEYS[i]) end
local now
if ARGV[3] == '1' then
  must_be('zset', KEYS[2])
  must_be('hash', KEYS[3])
  now = now_ms()
end

local count = tonumber(ARGV[4])
local fields = {}
for i = 1, count do fields[2 * i - 1] = ARGV[4 + i] end

local at = 5 + count
while at <= #ARGV do
  local key, when = KEYS[4 + tonumber(ARGV[at])], ARGV[at + 1]
  for i = 1, count do fields[2 * i] = ARGV[at + 1 + i] end
  if when == '' then
    append(KEYS[4], key, fields)
  else
    local due = tonumber(string.sub(when, 2))
    if string.sub(when, 1, 1) == '+' then due = now + due end
    local id = fields[4]  -- the event id: a delayed event is found, and cancelled, by it
    redis.call('HSET', KEYS[3], id, cmsgpack.pack({key, unpack(fields)}))
    redis.call('ZADD', KEYS[2], due, id)
  end
  at = at + 2 + count
end
redis.call('SET', KEYS[1], sequence, 'PX', ARGV[2])
return 1
