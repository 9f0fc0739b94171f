#!lua flags=allow-oom
-- Requests permits for deliveries whose handlers have limits; a delivery without a permit waits in the limit's queue.
-- KEYS  1 due  2 waiting  3 groups  4 inbox  5 limits  6.. source streams, and last the ledger
-- ARGV  1 group  2 consumer  3 ms for which a permit is good  4 the score of what waits in a queue
--       5 number of limits, and per limit: name, what it is, interval in ms (0: no rate), burst, concurrency (0: any);
--       then per delivery: source (index), entry id, delivery count, limit (index), ordering key, deliveries so far
-- Returns {ms until the next queued delivery may start (-1: none waits for time to pass), answers: 1 it may start, 0 it
-- is queued, -1 it is not this consumer's, -2 its entry was deleted, or an error text: a key of its limit, or of its
-- queue, is damaged}.
-- Invariant: requested twice for one delivery (a reply that was lost) it holds one permit. No delivery overtakes a
-- queue. With a rate, a permit expires after a while (a pause, a breaker): else all that hold one would start at once.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local due, waiting, registry, inbox, limits, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
local now, good_for = clock_ms(), tonumber(ARGV[3])
local limit_list, at = {}, 6
for i = 1, tonumber(ARGV[5]) do
  local base = limits .. ':' .. ARGV[at]
  local _, damaged = try('HSET', base, 'what', ARGV[at + 1], 'interval', ARGV[at + 2], 'burst', ARGV[at + 3], 'most', ARGV[at + 4])
  if not fits('zset', limits) then damaged = 'WRONGTYPE ' .. limits .. ' is no zset' end
  limit_list[i] = damaged and {damaged = base .. ': ' .. damaged} or limit_of(limits, ARGV[at])
  at = at + 5
end

local function request_permit(source, id, count, limit, key, deliveries)
  local pending = redis.pcall('XPENDING', source, group, id, id, 1, ARGV[2])
  if pending.err or not pending[1] or pending[1][4] ~= tonumber(count) then return -1 end
  if limit.damaged then return limit.damaged end
  local held, holder = limit.base .. ':held', source .. ' ' .. id
  local since = redis.call('ZSCORE', held, holder)
  if since then
    if limit.interval == 0 or now - tonumber(since) <= math.max(good_for, limit.interval) then
      if limit.concurrency == 0 then redis.call('ZREM', held, holder) end
      return 1
    end
    redis.call('ZREM', held, holder)
  end
  if not has_queue(limit) and not is_full(limit) and opens_in(limit, now) <= 0 then
    if limit.concurrency > 0 then redis.call('ZADD', held, now, holder) end
    take_token(limit, now)
    return 1
  end
  local entry = redis.call('XRANGE', source, id, id)[1]
  if not entry then return -2 end
  if not fits('list', limit.base .. ':ring') or not fits('list', queue_of_key(limit, key)) then
    return 'WRONGTYPE the line of ' .. limit.base .. ' is no list'
  end
  join_queue(limit, key, park(group, inbox, due, waiting, source, id, entry[2], ARGV[4], deliveries, {limitedby = limit.name}))
  return 0
end

local answers = {0}
while at <= #ARGV do
  local source, limit = KEYS[5 + tonumber(ARGV[at])], limit_list[tonumber(ARGV[at + 3])]
  local done, answer = pcall(request_permit, source, ARGV[at + 1], ARGV[at + 2], limit, ARGV[at + 4], ARGV[at + 5])
  answers[#answers + 1] = done and answer or reason_of(answer)
  at = at + 6
end
for _, limit in ipairs(limit_list) do
  if not limit.damaged then
    -- What was admitted above is in `limit` and not yet written: write it, whether or not a queue can be served.
    local served = pcall(serve, registry, due, waiting, limit, now)
    pcall(close, limits, limit, now)
    if not served then redis.pcall('ZADD', limits, now + LATER, limit.name) end
  end
end
ledger_add_published(added, created)
write_ledger()
answers[1] = next_opening(limits, now)
return answers
