#!lua flags=allow-oom
-- Moves what is due to the stream it waits for: retries and snoozes to a group's inbox, delayed events to their stream.
-- KEYS  1 due  2 waiting  3 groups  4 the ledger     ARGV  1 maximum number to move
-- Returns {moved, milliseconds until the next is due (-1: nothing waits), members that cannot be moved, {next member,
-- its score} (empty: nothing waits), {member, why, ...} of the first of those that cannot}.
-- Invariant: never early (Redis' clock), never lost, never twice: added to the stream before it leaves the set, all
-- in one script. The target streams are in the same slot; their keys are known only from the waiting message. One that
-- cannot be moved (it is damaged, or its stream takes no entry) delays no other: it is tried again in a minute.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua

local now = now_ms()
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local broken, shown = 0, {}
for i = 1, #due do
  local key, fields = read_waiting(KEYS[2], due[i])
  local moved, problem = false, 'its message is gone, or cannot be read'
  if key then moved, problem = pcall(append, KEYS[3], key, fields) end
  if moved then
    redis.call('HDEL', KEYS[2], due[i])
    ledger_add('released ' .. short(key), redis.call('ZREM', KEYS[1], due[i]))
  else  -- kept for an operator to look at, and out of the way of the others
    broken = broken + 1
    redis.call('ZADD', KEYS[1], now + 60000, due[i])
    if broken <= 3 then
      shown[#shown + 1] = due[i]
      shown[#shown + 1] = reason_of(problem)
    end
  end
end
ledger_add_published(added, created)
write_ledger()
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait = -1
if head[2] then wait = math.max(0, math.min(tonumber(head[2]), 9007199254740991) - now) end
return {#due - broken, wait, broken, head, shown}
