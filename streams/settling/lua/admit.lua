#!lua flags=allow-oom
-- Asks the limits of their handlers whether deliveries may start now; who may not stands in line.
-- KEYS  1 due  2 waiting  3 groups  4 inbox  5 limits  6.. source streams, and last the books
-- ARGV  1 group  2 consumer  3 ms for which having been let in is good  4 the score of who stands in line
--       5 number of limits, and per limit: name, what it is, interval in ms (0: no rate), burst, most at once (0: any);
--       then per delivery: source (index), entry id, delivery count, limit (index), ordering key, hand-overs so far
-- Returns {ms until somebody in line may be let in (-1: nobody waits for that), answers: 1 it may start, 0 it stands in
-- line, -1 it is not this consumer's, -2 its entry was deleted, or why it cannot be said: a key of its limit, or what
-- it would wait in, is damaged}.
-- Invariant: asked twice for one delivery (a reply that was lost) it holds one place. Nobody overtakes a line. With a
-- rate, having been let in is worth nothing after a while (a pause, a breaker): else all who were would start at once.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/limits.lua

local due, waiting, registry, inbox, limits, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
local now, good_for = clock_ms(), tonumber(ARGV[3])
local asked, at = {}, 6
for i = 1, tonumber(ARGV[5]) do
  local place = limits .. ':' .. ARGV[at]
  local _, damaged = try('HSET', place, 'what', ARGV[at + 1], 'interval', ARGV[at + 2], 'burst', ARGV[at + 3], 'most', ARGV[at + 4])
  if not fits('zset', limits) then damaged = 'WRONGTYPE ' .. limits .. ' is no zset' end
  asked[i] = damaged and {damaged = place .. ': ' .. damaged} or limit_of(limits, ARGV[at])
  at = at + 5
end

local function ask(source, id, count, limit, key, deliveries)
  local pending = redis.pcall('XPENDING', source, group, id, id, 1, ARGV[2])
  if pending.err or not pending[1] or pending[1][4] ~= tonumber(count) then return -1 end
  if limit.damaged then return limit.damaged end
  local held, holder = limit.place .. ':held', source .. ' ' .. id
  local since = redis.call('ZSCORE', held, holder)
  if since then
    if limit.interval == 0 or now - tonumber(since) <= math.max(good_for, limit.interval) then
      if limit.most == 0 then redis.call('ZREM', held, holder) end
      return 1
    end
    redis.call('ZREM', held, holder)
  end
  if not has_line(limit) and not is_full(limit) and opens_in(limit, now) <= 0 then
    if limit.most > 0 then redis.call('ZADD', held, now, holder) end
    take_token(limit, now)
    return 1
  end
  local entry = redis.call('XRANGE', source, id, id)[1]
  if not entry then return -2 end
  if not fits('list', limit.place .. ':ring') or not fits('list', line_of_key(limit, key)) then
    return 'WRONGTYPE the line of ' .. limit.place .. ' is no list'
  end
  join_line(limit, key, park(group, inbox, due, waiting, source, id, entry[2], ARGV[4], deliveries, {limitedby = limit.name}))
  return 0
end

local answers = {0}
while at <= #ARGV do
  local source, limit = KEYS[5 + tonumber(ARGV[at])], asked[tonumber(ARGV[at + 3])]
  local said, answer = pcall(ask, source, ARGV[at + 1], ARGV[at + 2], limit, ARGV[at + 4], ARGV[at + 5])
  answers[#answers + 1] = said and answer or reason_of(answer)
  at = at + 6
end
for _, limit in ipairs(asked) do
  if not limit.damaged then
    -- What was admitted above is in `limit` and not yet written: it is, whether or not a line can be served.
    local served = pcall(serve, registry, due, waiting, limit, now)
    pcall(close, limits, limit, now)
    if not served then redis.pcall('ZADD', limits, now + LATER, limit.name) end
  end
end
book_added(added, created)
write_books()
answers[1] = next_opening(limits, now)
return answers
