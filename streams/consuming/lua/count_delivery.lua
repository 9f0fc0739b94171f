#!lua flags=allow-oom
-- Counts the delivery of one suspect just before its handler starts (see reclaim.lua).
-- KEYS  1 source stream     ARGV  1 group  2 consumer  3 entry id  4 delivery count
-- Returns 1, or 0 when this consumer does not own it any more.
-- Invariant: if the handler now kills the process, the count already says so.

local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if pending.err or not pending[1] or pending[1][4] ~= tonumber(ARGV[4]) then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[4] + 1, 'JUSTID')
return 1
