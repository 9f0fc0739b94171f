#!lua flags=allow-oom
-- Pauses a group, or lets it go on.
-- KEYS  1 paused     ARGV  1 group  2 1 to pause, 0 to resume  3 the group's control channel
-- Returns 1 if that changed anything.
-- Invariant: what is written is what running consumers are told; one that starts later reads it.

local changed
if ARGV[2] == '1' then
  changed = redis.call('SADD', KEYS[1], ARGV[1])
else
  changed = redis.call('SREM', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[3], ARGV[2] == '1' and 'pause' or 'resume')
return changed
