#!lua flags=allow-oom
-- Removes a group that no process runs any more: what it has not read and what it holds is not delivered.
-- KEYS  1 groups  2 consumers  3 inbox  4 paused  5 cancelled  6 turns  7 limits  8.. the streams it reads, and
--       last the ledger
-- ARGV  1 group  2 ms in which a heartbeat means alive  3 1 to do it, 0 to look only
-- Returns {-1 unknown, 0 nothing was changed, 1 done; consumers that are alive; pending; length of the inbox}.
-- Invariant: a group with a live consumer is not touched. Its dead letters and its history stay.
-- include redis/ledger.lua

local group, alive, pending, known = ARGV[1], 0, 0, redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
alive = redis.pcall('ZCOUNT', KEYS[2], now - tonumber(ARGV[2]), '+inf')
if type(alive) ~= 'number' then alive = 0 end
for i = 8, #KEYS - 1 do
  local held = redis.pcall('XPENDING', KEYS[i], group)
  if not held.err then
    known = true
    pending = pending + held[1]
  end
end
local inbox = redis.call('TYPE', KEYS[3]).ok == 'stream' and redis.call('XLEN', KEYS[3]) or 0
local held = redis.pcall('XPENDING', KEYS[3], group)
if not held.err then pending = pending + held[1] end
if not known then return {-1, 0, 0, 0} end
if alive > 0 or ARGV[3] ~= '1' then return {0, alive, pending, inbox} end

for i = 8, #KEYS - 1 do redis.pcall('XGROUP', 'DESTROY', KEYS[i], group) end
redis.call('HDEL', KEYS[1], group)
for _, key in ipairs(redis.pcall('HKEYS', KEYS[6])) do
  redis.call('DEL', KEYS[6] .. ':' .. redis.sha1hex(key))  -- the queue of the key; its messages are dropped with all that waits
end
for _, name in ipairs(redis.pcall('ZRANGE', KEYS[7], 0, -1)) do
  local base = KEYS[7] .. ':' .. name
  for _, key in ipairs(redis.pcall('LRANGE', base .. ':ring', 0, -1)) do redis.call('DEL', base .. ':line:' .. key) end
  redis.call('DEL', base, base .. ':held', base .. ':ring')
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7])
redis.pcall('SREM', KEYS[4], group)
ledger_add('given-up ' .. short(KEYS[3]), inbox)
write_ledger()
-- The other counters stay: should the group be made again, what it missed is computed from them.
for _, field in ipairs(redis.pcall('HKEYS', KEYS[#KEYS])) do
  if string.sub(field, 1, 8 + #group) == 'missed ' .. group .. ' ' then redis.call('HDEL', KEYS[#KEYS], field) end
end
return {1, alive, pending, inbox}
