#!lua flags=allow-oom
-- Takes what is nowhere any more out of a limit (somebody deleted it, or its handler had no limit for a while).
-- KEYS  1 due  2 waiting  3 groups  4 inbox  5 limits  6.. the streams of the group, and last the books
-- ARGV  1 group  2 the limit's name  3 1 to let everybody in line go and forget it: nobody is limited any more
-- Returns {how many it held that are nowhere, how many were let go}.
-- Invariant: what is pending in the group, or unread in its inbox, keeps its place.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local due, waiting, registry, inbox, limits, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
local limit, now, lost, freed = limit_of(limits, ARGV[2]), clock_ms(), 0, 0
local known = {}
for i = 6, #KEYS - 1 do known[KEYS[i]] = true end
for _, holder in ipairs(redis.call('ZRANGE', limit.place .. ':held', 0, -1)) do
  local source, id = string.match(holder, '^(.*) (%S+)$')
  local pending = source and known[source] and redis.pcall('XPENDING', source, group, id, id, 1)
  local there = pending and not pending.err and pending[1]
  if not there and source == inbox then there = (try('XRANGE', inbox, id, id) or {})[1] end
  if not there then lost = lost + redis.call('ZREM', limit.place .. ':held', holder) end
end
if ARGV[3] == '1' then
  while true do
    local key = redis.call('LINDEX', limit.place .. ':ring', 0)
    if not key then break end
    local line = limit.place .. ':line:' .. key
    for _, id in ipairs(redis.call('LRANGE', line, 0, -1)) do
      if leave_line(registry, due, waiting, id) then freed = freed + 1 end
    end
    redis.call('DEL', line)
    redis.call('LPOP', limit.place .. ':ring')
  end
  redis.call('DEL', limit.place .. ':held')
end
pcall(serve_and_close, registry, due, waiting, limits, limit.name, now)
book_added(added, created)
write_books()
return {lost, freed}
