#!lua flags=allow-oom
-- Drops what waits for a group that was retired.
-- KEYS  1 due  2 waiting  3 groups  4 the books     ARGV  1 group  2 its inbox  3.. waiting ids
-- Returns how many were dropped.
-- Invariant: nothing that waits for a registered group is dropped, should somebody have started it again meanwhile.
-- include books.lua

if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 0 end
local dropped = 0
for i = 3, #ARGV do
  local read, fields = pcall(cmsgpack.unpack, redis.call('HGET', KEYS[2], ARGV[i]) or '')
  if read and type(fields) == 'table' and fields[1] == ARGV[2] then
    redis.call('HDEL', KEYS[2], ARGV[i])
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
book('unwaited ' .. short(ARGV[2]), dropped)
write_books()
return dropped
