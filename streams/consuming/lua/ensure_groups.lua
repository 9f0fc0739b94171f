#!lua
-- Makes a group on everything it reads, and enters it in the registry that publishers make groups from.
-- KEYS  1 groups  2.. streams, and last the ledger     ARGV  1 group
-- Returns {how many were missing, key, why, ... of those on which it cannot be made}.
-- Invariant: groups begin at 0. At `$`, what was published before the group existed would never be delivered. What had
-- been removed from a stream before the group was there is noted as missed: the group did not lose it. The first id that
-- the group is given is noted as well, also for a group that was made by hand further on. A key that is damaged keeps
-- the group from none of the others.
-- include redis/ledger.lua

local group, ledger, made = ARGV[1], KEYS[#KEYS], 0

local function number(field)
  local noted = redis.pcall('HGET', ledger, field)
  return type(noted) == 'string' and tonumber(noted) or 0
end

local function note_missed(stream)
  local name, info = short(stream), redis.call('XINFO', 'STREAM', stream)
  local length, added
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
  local published, field = number('published ' .. name), 'missed ' .. group .. ' ' .. name
  if added == 0 then redis.call('HDEL', ledger, 'removed ' .. name) end
  -- A stream that was deleted has lost what was in it: then the group keeps its counters, which show the loss.
  if published > added and redis.call('HEXISTS', ledger, field) == 1 then return end
  local settled = 0
  for _, what in ipairs({'acked', 'dead', 'cancelled', 'expired', 'returned'}) do
    settled = settled + number(what .. ' ' .. group .. ' ' .. name)
  end
  redis.call('HSET', ledger, field, math.max(published, added) - length - settled)
end

local function note_began(stream, field)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if first and number('missed ' .. group .. ' ' .. short(stream)) > 0 then
    redis.call('HSET', ledger, field, first[1])
  else
    redis.call('HDEL', ledger, field)
  end
end

local function note_skipped(stream, field)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local found = {}
    for i = 1, #info, 2 do found[info[i]] = info[i + 1] end
    if found['name'] == group and found['last-delivered-id'] ~= '0-0' then
      redis.call('HSET', ledger, field, '(' .. found['last-delivered-id'])
    end
  end
end

local known, refused = redis.pcall('HEXISTS', KEYS[1], group) == 1, {}

local function refuse(key, why)
  refused[#refused + 1] = key
  refused[#refused + 1] = why
end

for i = 2, #KEYS - 1 do
  local began = 'began ' .. group .. ' ' .. short(KEYS[i])
  local reply = redis.pcall('XGROUP', 'CREATE', KEYS[i], group, '0', 'MKSTREAM')
  if not reply.err then
    made = made + 1
    if string.find(KEYS[i], '}:stream:', 1, true) then
      pcall(note_missed, KEYS[i])  -- a damaged ledger costs counters only
      pcall(note_began, KEYS[i], began)
    end
  elseif not string.find(reply.err, 'BUSYGROUP', 1, true) then
    refuse(KEYS[i], reply.err)
  elseif not known then
    pcall(note_skipped, KEYS[i], began)
  end
end
local entered = redis.pcall('HSET', KEYS[1], group, table.concat(KEYS, ' ', 2, #KEYS - 1))
if type(entered) == 'table' then refuse(KEYS[1], entered.err) end
redis.pcall('HSET', ledger, 'seen ' .. group, redis.call('TIME')[1])
return {made, unpack(refused)}
