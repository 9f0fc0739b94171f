#!lua flags=allow-oom
-- Advances a replay from history by one step: from one state to the next, with the messages of that step.
-- KEYS  1 replays  2 inbox  3 groups  4 the ledger
-- ARGV  1 replay id  2 its state as it was read ('': it is new)  3 its next state ('': forget it)  4 group,
--       then per message: FIELDS (number of strings, name, value, ...)
-- Returns 1 when it was done, 0 when the state is another by now, -1 when the group is not registered.
-- Invariant: a message and the cursor that has passed it are one step, so however often a replay is interrupted, and
-- however many processes run it at once, each message is added once.
-- include redis/append.lua
-- include redis/ledger.lua

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if #ARGV >= 5 and redis.call('HEXISTS', KEYS[3], ARGV[4]) == 0 then return -1 end
must_be('stream', KEYS[2])

local at = 5
while at <= #ARGV do
  local fields = {}
  for i = 1, tonumber(ARGV[at]) do fields[i] = ARGV[at + i] end
  at = at + 1 + #fields
  append(KEYS[3], KEYS[2], fields)
  ledger_add('replayed ' .. ARGV[4], 1)
end
ledger_add_published(added, created)
write_ledger()
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
