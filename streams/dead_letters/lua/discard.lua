#!lua flags=allow-oom
-- Drops dead letters for good, with one record each in the group's history.
-- KEYS  1 dead  2 history  3 the ledger
-- ARGV  1 history length, then per dead letter: its entry id, number of strings, history record
-- Returns how many were there to drop.
-- Invariant: a discarded dead letter can still be accounted for.
-- include redis/ledger.lua

local at, dropped = 2, 0
while at <= #ARGV do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local record = {}
  for i = 1, count do record[i] = ARGV[at + 1 + i] end
  at = at + 2 + count
  if redis.call('XRANGE', KEYS[1], id, id)[1] then
    redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', unpack(record))
    redis.call('XDEL', KEYS[1], id)
    dropped = dropped + 1
  end
end
ledger_add('discarded ' .. short(KEYS[1]), dropped)
write_ledger()
return dropped
