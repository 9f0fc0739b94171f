#!lua flags=allow-oom
-- Pauses or resumes a group.
-- KEYS  1 paused     ARGV  1 group  2 1 to pause, 0 to resume  3 the group's control channel
-- Returns 1 if that changed anything.
-- Invariant: the set and the message to running consumers say the same; a consumer that starts later reads the set.

local changed
if ARGV[2] == '1' then
  changed = redis.call('SADD', KEYS[1], ARGV[1])
else
  changed = redis.call('SREM', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[3], ARGV[2] == '1' and 'pause' or 'resume')
return changed
