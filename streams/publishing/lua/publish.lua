#!lua
-- Publishes one batch of one publisher, once.
-- KEYS  1 producer  2 due  3 waiting  4 groups  5.. streams, and last the ledger
-- ARGV  1 batch sequence  2 producer ttl ms  3 1 if some message waits  4 number of fields  5.. field names, then per message:
--       stream (index from 1), when ('' now, '+N' in N ms, '@N' at N ms since 1970), once ('' or the key that holds
--       the id of the first event published under it), once ttl ms, one value per field (the last field is left out of
--       an entry in which it is empty: only some expire)
-- Returns {{position (from 1), id, ...} of the messages that were left out because their `once` was taken by that id,
-- {position, why, ...} of those that Redis refused}.
-- Invariant: a batch with a sequence not above the producer's last one changes nothing, so a publisher whose reply
-- was lost sends the same batch again; which of it were refused stands behind the sequence. A key that is damaged, or a
-- stream that takes no entry any more, costs its own messages: others are in the same batch. The flag `allow-oom` is
-- absent on purpose: a full server refuses publishers.
-- include redis/append.lua
-- include redis/ledger.lua

local held, sequence = redis.pcall('GET', KEYS[1]), tonumber(ARGV[1])
local last, before = string.match(type(held) == 'string' and held or '', '^(%d+)(.*)$')
last = tonumber(last or '0')
local again = sequence <= last and last - sequence < 1000000  -- no publisher repeats a batch that old
local now, unfit
if ARGV[3] == '1' then
  now = now_ms()
  if not fits('zset', KEYS[2]) then unfit = 'WRONGTYPE ' .. KEYS[2] .. ' is no zset' end
  if not fits('hash', KEYS[3]) then unfit = 'WRONGTYPE ' .. KEYS[3] .. ' is no hash' end
end

local count = tonumber(ARGV[4])
local fields = {}
for i = 1, count do fields[2 * i - 1] = ARGV[4 + i] end

local at, position, taken, refused = 5 + count, 0, {}, {}

local function refuse(why)
  refused[#refused + 1] = position
  refused[#refused + 1] = why
end

local function add(key, when)
  if when == '' then return append(KEYS[4], key, fields) end
  if unfit then error({err = unfit}) end
  local due = tonumber(string.sub(when, 2))
  if string.sub(when, 1, 1) == '+' then due = now + due end
  local id = fields[4]  -- the event id: a delayed event is found, and cancelled, by it
  redis.call('HSET', KEYS[3], id, cmsgpack.pack({key, unpack(fields)}))
  ledger_add('waited ' .. short(key), redis.call('ZADD', KEYS[2], due, id))
end

while at <= #ARGV do
  local key, when, once, ttl = KEYS[4 + tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  for i = 1, count do fields[2 * i] = ARGV[at + 3 + i] end
  fields[2 * count - 1] = ARGV[4 + count]
  if fields[2 * count] == '' then fields[2 * count - 1], fields[2 * count] = nil, nil end
  position = position + 1
  local first, problem
  if once ~= '' then first, problem = try('GET', once) end
  if problem then
    refuse(problem)
  elseif first and (first ~= fields[4] or not again) then  -- also by this event itself, published by a process that died since
    taken[#taken + 1] = position
    taken[#taken + 1] = first
  elseif again then  -- it is there already, or was refused
    if string.find(before .. ' ', ' ' .. position .. ' ', 1, true) then refuse('ERR it was refused before') end
  else
    local done, why = pcall(add, key, when)
    if not done then
      refuse(reason_of(why))
    elseif once ~= '' then
      redis.call('SET', once, fields[4], 'PX', ttl)
    end
  end
  at = at + 4 + count
end
if again then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])  -- a write, so that WAIT on this connection waits for what is there
else
  ledger_add_published(added, created)
  write_ledger()
  for i = 1, #refused, 2 do sequence = sequence .. ' ' .. refused[i] end
  redis.call('SET', KEYS[1], sequence, 'PX', ARGV[2])
end
return {taken, refused}
