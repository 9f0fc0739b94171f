#!lua flags=allow-oom
-- Writes the status report of one consumer.
-- KEYS  1 reports     ARGV  1 consumer  2 its report (JSON)  3 ms that reports are kept
-- Returns 1.
-- Invariant: the key expires soon after the last report, so a consumer that dies leaves nothing behind.

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
