#!lua flags=allow-oom
-- Writes down what a consumer that was asked says of itself.
-- KEYS  1 reports     ARGV  1 consumer  2 its report (JSON)  3 ms that reports are kept
-- Returns 1.
-- Invariant: the key goes by itself soon after the last answer, so a consumer that dies leaves nothing behind.

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
