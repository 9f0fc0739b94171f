#!lua flags=allow-oom
-- Moves what is due to the stream it waits for: retries and snoozes to a group's inbox, delayed events to their lane.
-- KEYS  1 due  2 waiting  3 groups  4 the books     ARGV  1 most to move
-- Returns {moved, milliseconds until the next is due (-1: nothing waits), members that cannot be moved, {next member,
-- its score} (empty: nothing waits)}.
-- Invariant: never early (Redis' clock), never lost, never twice: added to the stream before it leaves the set, all
-- in one script. The target streams are in the same slot; their keys are known only from the waiting message.
-- include append.lua
-- include books.lua

local now = now_ms()
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local broken = 0
for i = 1, #due do
  local packed = redis.call('HGET', KEYS[2], due[i])
  local read, fields = pcall(cmsgpack.unpack, packed or '')
  local key = packed and read and table.remove(fields, 1)
  local kind = key and redis.call('TYPE', key).ok
  if kind == 'stream' or kind == 'none' then
    append(KEYS[3], key, fields)
    redis.call('HDEL', KEYS[2], due[i])
    book('released ' .. short(key), redis.call('ZREM', KEYS[1], due[i]))
  else  -- kept for a person to look at, and out of the way of the others
    broken = broken + 1
    redis.call('ZADD', KEYS[1], now + 60000, due[i])
  end
end
book_added(added, created)
write_books()
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait = -1
if head[2] then wait = math.max(0, tonumber(head[2]) - now) end
return {#due - broken, wait, broken, head}
