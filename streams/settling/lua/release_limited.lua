#!lua flags=allow-oom
-- Admits deliveries from the queues of a group's limits, where enough time has passed.
-- KEYS  1 due  2 waiting  3 groups  4 limits  5 paused  6 the ledger     ARGV  1 group  2 maximum number of limits
-- Returns {ms until the next queued delivery may start (-1: none waits for time to pass), why a limit cannot be served
-- ('': all can)}.
-- Invariant: a paused group admits nothing: no consumer would read it, and a permit expires.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local now, failure = clock_ms(), ''
if redis.pcall('SISMEMBER', KEYS[5], ARGV[1]) == 1 then return {-1, ''} end
for _, name in ipairs(redis.call('ZRANGE', KEYS[4], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  local served, problem = pcall(serve_and_close, KEYS[3], KEYS[1], KEYS[2], KEYS[4], name, now)
  if not served then
    failure = reason_of(problem)
    redis.call('ZADD', KEYS[4], now + LATER, name)
  end
end
ledger_add_published(added, created)
write_ledger()
return {next_opening(KEYS[4], now), failure}
