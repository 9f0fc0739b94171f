#!lua flags=allow-oom
-- Lets in who stands in line at the limits of a group, where enough time has passed.
-- KEYS  1 due  2 waiting  3 groups  4 limits  5 paused  6 the books     ARGV  1 group  2 most limits to look at
-- Returns {ms until somebody else may be let in (-1: nobody waits for that), why a limit cannot be served ('': all can)}.
-- Invariant: a group that is paused lets nobody in: nobody would read it, and having been let in passes.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local now, told = clock_ms(), ''
if redis.pcall('SISMEMBER', KEYS[5], ARGV[1]) == 1 then return {-1, ''} end
for _, name in ipairs(redis.call('ZRANGE', KEYS[4], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  local served, problem = pcall(serve_and_close, KEYS[3], KEYS[1], KEYS[2], KEYS[4], name, now)
  if not served then
    told = reason_of(problem)
    redis.call('ZADD', KEYS[4], now + LATER, name)
  end
end
book_added(added, created)
write_books()
return {next_opening(KEYS[4], now), told}
