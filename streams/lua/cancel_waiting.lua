#!lua flags=allow-oom
-- Calls off what waits: a delayed event for all groups, a retry or snooze for its own.
-- KEYS  1 due  2 waiting  3 the books     ARGV  1 waiting id  2 history length, then per group: the
--       key of its history, number of strings, history record
-- Returns 1, or 0 when nothing waits under that id (any more).
-- Invariant: it leaves the set and the hash in one step, so it is either called off or delivered, never both.
-- include books.lua

if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
local at = 3
while at <= #ARGV do
  local history, count, record = ARGV[at], tonumber(ARGV[at + 1]), {}
  for i = 1, count do record[i] = ARGV[at + 1 + i] end
  at = at + 2 + count
  redis.call('XADD', history, 'MAXLEN', '~', ARGV[2], '*', unpack(record))
end
local read, fields = pcall(cmsgpack.unpack, redis.call('HGET', KEYS[2], ARGV[1]))
local target = read and type(fields) == 'table' and short(tostring(fields[1])) or '?'
book('unwaited ' .. target, redis.call('ZREM', KEYS[1], ARGV[1]))
write_books()
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
