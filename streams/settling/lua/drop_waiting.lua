#!lua flags=allow-oom
-- Drops what waits for a group that was retired.
-- KEYS  1 due  2 waiting  3 groups  4 the ledger     ARGV  1 group  2 its inbox  3.. waiting ids
-- Returns how many were dropped.
-- Invariant: nothing that waits for a registered group is dropped: the group may have been started again meanwhile.
-- include redis/ledger.lua
-- include settling/waiting.lua

if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 0 end
local dropped = 0
for i = 3, #ARGV do
  if read_waiting(KEYS[2], ARGV[i]) == ARGV[2] then
    redis.call('HDEL', KEYS[2], ARGV[i])
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
ledger_add('unwaited ' .. short(ARGV[2]), dropped)
write_ledger()
return dropped
