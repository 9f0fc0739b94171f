#!lua flags=allow-oom
-- Cancels a waiting message: a delayed event for all groups, a retry or snooze for its own.
-- KEYS  1 due  2 waiting  3 groups  4 the cancellations  5 the ledger     ARGV  1 waiting id  2 history length
--       3 number of strings, the record for the cancellations (of a delayed event), then per group: the key of its
--       history, number of strings, history record
-- Returns 1, or 0 when nothing waits under that id (any more).
-- Invariant: it leaves the set and the hash in one step, so it is either cancelled or delivered, never both. In an
-- ordered group, when the message was the head of its key's queue, the queue advances.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua

if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
local function strings(first, count)
  local found = {}
  for i = 1, count do found[i] = ARGV[first + i - 1] end
  return found
end
local record_length = tonumber(ARGV[3])
if record_length > 0 then redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*', unpack(strings(4, record_length))) end
local at = 4 + record_length
while at <= #ARGV do
  local history, count = ARGV[at], tonumber(ARGV[at + 1])
  redis.pcall('XADD', history, 'MAXLEN', '~', ARGV[2], '*', unpack(strings(at + 2, count)))
  at = at + 2 + count
end
local target, fields = read_waiting(KEYS[2], ARGV[1])
target = target or '?'
local at_inbox, after = string.find(target, '}:inbox:', 1, true)
if at_inbox then
  local heads = string.sub(target, 1, at_inbox + 1) .. 'turns:' .. string.sub(target, after + 1)
  pcall(advance_queue, KEYS[3], KEYS[1], KEYS[2], heads, field_of(fields, 'partitionkey'), head_id(fields))
end
ledger_add('unwaited ' .. short(target), redis.call('ZREM', KEYS[1], ARGV[1]))
ledger_add_published(added, created)
write_ledger()
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
