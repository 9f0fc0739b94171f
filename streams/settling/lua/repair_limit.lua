#!lua flags=allow-oom
-- Removes lost holders from a limit: their entry was deleted, or their handler had no limit for a while.
-- KEYS  1 due  2 waiting  3 groups  4 inbox  5 limits  6.. the streams of the group, and last the ledger
-- ARGV  1 group  2 the limit's name  3 1 to release its whole queue and forget it: no handler has that limit any more
-- Returns {how many lost holders were removed, how many queued deliveries were released}.
-- Invariant: what is pending in the group, or unread in its inbox, keeps its permit.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local due, waiting, registry, inbox, limits, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
local limit, now, lost, freed = limit_of(limits, ARGV[2]), clock_ms(), 0, 0
local known = {}
for i = 6, #KEYS - 1 do known[KEYS[i]] = true end
for _, holder in ipairs(redis.call('ZRANGE', limit.base .. ':held', 0, -1)) do
  local source, id = string.match(holder, '^(.*) (%S+)$')
  local pending = source and known[source] and redis.pcall('XPENDING', source, group, id, id, 1)
  local there = pending and not pending.err and pending[1]
  if not there and source == inbox then there = (try('XRANGE', inbox, id, id) or {})[1] end
  if not there then lost = lost + redis.call('ZREM', limit.base .. ':held', holder) end
end
if ARGV[3] == '1' then
  while true do
    local key = redis.call('LINDEX', limit.base .. ':ring', 0)
    if not key then break end
    local queue = limit.base .. ':line:' .. key
    for _, id in ipairs(redis.call('LRANGE', queue, 0, -1)) do
      if leave_queue(registry, due, waiting, id) then freed = freed + 1 end
    end
    redis.call('DEL', queue)
    redis.call('LPOP', limit.base .. ':ring')
  end
  redis.call('DEL', limit.base .. ':held')
end
pcall(serve_and_close, registry, due, waiting, limits, limit.name, now)
ledger_add_published(added, created)
write_ledger()
return {lost, freed}
