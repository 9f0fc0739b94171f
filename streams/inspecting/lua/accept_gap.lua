#!lua
-- Takes a gap in the books for known, so that the next one is seen.
-- KEYS  1 the books     ARGV  per gap: where it is, how large
-- Returns how many were taken.
-- Invariant: the books themselves are not changed; what was accepted stands beside them.

for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], 'accepted ' .. ARGV[i], ARGV[i + 1]) end
return #ARGV / 2
