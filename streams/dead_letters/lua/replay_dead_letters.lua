#!lua flags=allow-oom
-- Sends dead letters back to the one group they are from.
-- KEYS  1 dead  2 inbox  3 groups  4 history  5 the ledger
-- ARGV  1 history length, then per dead letter: its entry id, FIELDS of the message, FIELDS of the history record
--       (FIELDS = number of strings, name, value, ...)
-- Returns how many were replayed.
-- Invariant: once. A dead letter that is gone (another process replayed or discarded it) is skipped; it is added
-- to the inbox before it leaves the dead letters.
-- include redis/append.lua
-- include redis/ledger.lua

local at, replayed = 2, 0

local function take_fields()
  local count = tonumber(ARGV[at])
  local fields = {}
  for i = 1, count do fields[i] = ARGV[at + i] end
  at = at + 1 + count
  return fields
end

must_be('stream', KEYS[2])
while at <= #ARGV do
  local id = ARGV[at]
  at = at + 1
  local message, record = take_fields(), take_fields()
  if redis.call('XRANGE', KEYS[1], id, id)[1] then
    append(KEYS[3], KEYS[2], message)
    redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', ARGV[1], '*', unpack(record))
    redis.call('XDEL', KEYS[1], id)
    replayed = replayed + 1
  end
end
ledger_add('revived ' .. short(KEYS[1]), replayed)
ledger_add_published(added, created)
write_ledger()
return replayed
