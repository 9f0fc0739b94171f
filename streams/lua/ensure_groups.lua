#!lua
-- Makes a group on everything it reads, and enters it in the registry that publishers make groups from.
-- KEYS  1 groups  2.. streams     ARGV  1 group
-- Returns how many were missing.
-- Invariant: groups begin at 0. At `$`, what was published before the group existed would never be delivered.

local made = 0
for i = 2, #KEYS do
  local reply = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], '0', 'MKSTREAM')
  if not reply.err then
    made = made + 1
  elseif not string.find(reply.err, 'BUSYGROUP', 1, true) then
    error(reply)
  end
end
redis.call('HSET', KEYS[1], ARGV[1], table.concat(KEYS, ' ', 2))
return made
