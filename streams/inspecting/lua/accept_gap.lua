#!lua
-- Acknowledges a discrepancy of the ledger, so that the next one is seen.
-- KEYS  1 the ledger     ARGV  per discrepancy: where it is, how large
-- Returns how many were acknowledged.
-- Invariant: the counters themselves are not changed; what was acknowledged is counted beside them.

for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], 'accepted ' .. ARGV[i], ARGV[i + 1]) end
return #ARGV / 2
