#!lua
-- Publishes one batch of one publisher, once.
-- KEYS  1 producer  2 due  3 waiting  4 groups  5.. streams, and last the books
-- ARGV  1 batch sequence  2 producer ttl ms  3 1 if some message waits  4 number of fields  5.. field names, then per message:
--       stream (index from 1), when ('' now, '+N' in N ms, '@N' at N ms since 1970), once ('' or the key that holds
--       the id of the first event published under it), once ttl ms, one value per field (the last field is left out of
--       an entry in which it is empty: only some expire)
-- Returns {position (from 1), id, ...} of the messages that were left out because their `once` was taken by that id.
-- Invariant: a batch with a sequence not above the producer's last one changes nothing, so a publisher whose reply
-- was lost sends the same batch again. The flag `allow-oom` is absent on purpose: a full server refuses publishers.
-- include append.lua
-- include books.lua

local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local sequence = tonumber(ARGV[1])
local again = sequence <= last
for i = 5, #KEYS - 1 do must_be('stream', KEYS[i]) end
local now
if ARGV[3] == '1' then
  must_be('zset', KEYS[2])
  must_be('hash', KEYS[3])
  now = now_ms()
end

local count = tonumber(ARGV[4])
local fields = {}
for i = 1, count do fields[2 * i - 1] = ARGV[4 + i] end

local at, position, taken = 5 + count, 0, {}
while at <= #ARGV do
  local key, when, once, ttl = KEYS[4 + tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  for i = 1, count do fields[2 * i] = ARGV[at + 3 + i] end
  fields[2 * count - 1] = ARGV[4 + count]
  if fields[2 * count] == '' then fields[2 * count - 1], fields[2 * count] = nil, nil end
  position = position + 1
  local first
  if once ~= '' then
    if again then
      first = redis.call('GET', once)
    else
      first = redis.call('SET', once, fields[4], 'NX', 'GET', 'PX', ttl)
    end
  end
  if first and (first ~= fields[4] or not again) then  -- also by this event itself, published by who died since
    taken[#taken + 1] = position
    taken[#taken + 1] = first
  elseif again then  -- it is there already
  elseif when == '' then
    append(KEYS[4], key, fields)
  else
    local due = tonumber(string.sub(when, 2))
    if string.sub(when, 1, 1) == '+' then due = now + due end
    local id = fields[4]  -- the event id: a delayed event is found, and cancelled, by it
    redis.call('HSET', KEYS[3], id, cmsgpack.pack({key, unpack(fields)}))
    book('waited ' .. short(key), redis.call('ZADD', KEYS[2], due, id))
  end
  at = at + 4 + count
end
if again then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])  -- a write, so that WAIT on this connection waits for what is there
else
  book_added(added, created)
  write_books()
  redis.call('SET', KEYS[1], sequence, 'PX', ARGV[2])
end
return taken
