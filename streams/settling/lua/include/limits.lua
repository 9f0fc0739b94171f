-- Included by the scripts that admit deliveries of limited handlers: not a script of its own. After append.lua,
-- ledger.lua and park.lua. A limit's key P = LIMITS:NAME is a hash (what, interval in ms between two starts (0: no
-- rate), burst, most (its concurrency, 0: any number), tat: when the next start is due in theory); P:held is a zset of
-- the deliveries that have a permit, `source entry-id` -> since when in ms. P:ring is the round-robin list of the keys
-- (hashed) that have a queue, P:line:KEY the queue of one. LIMITS itself is a zset: each limit in use -> when its next
-- queued delivery may start (NEVER: when a running one ends).
-- Invariant: what is in `held` is pending in the group, or in its inbox on the way to being so; never more than `most`.
-- Queued deliveries are admitted one key after the other, and those of one key in their order.
local NEVER = 9007199254740991
local MAX_SERVED = 1000  -- in one call: a queue of cancelled deliveries may be long
local LATER = 60000  -- ms until the next try of a limit that has a damaged key, or an inbox that takes no entry

local function number(text, otherwise)  -- a text that is no finite number counts as absent
  local value = tonumber(text or '')
  if not value or value ~= value or math.abs(value) > NEVER then return otherwise end
  return value
end

local function limit_of(limits, name)
  local base = limits .. ':' .. name
  local stored = redis.call('HMGET', base, 'interval', 'burst', 'most', 'tat')
  return {
    name = name, base = base, interval = number(stored[1], 0), burst = number(stored[2], 1), concurrency = number(stored[3], 0),
    tat = number(stored[4], 0),
  }
end

-- ms until its rate admits the next start (a generic cell rate: `burst` at once, then one an interval); never more than
-- an interval, whatever `tat` has been written
local function opens_in(limit, now)
  if limit.interval == 0 then return 0 end
  return math.min(limit.interval, math.max(0, limit.tat - (limit.burst - 1) * limit.interval - now))
end

local function is_full(limit)
  return limit.concurrency > 0 and redis.call('ZCARD', limit.base .. ':held') >= limit.concurrency
end

local function has_queue(limit)
  return redis.call('EXISTS', limit.base .. ':ring') == 1
end

local function take_token(limit, now)
  if limit.interval > 0 then
    limit.tat = math.max(now, math.min(limit.tat, now + limit.burst * limit.interval)) + limit.interval
  end
end

local function queue_of_key(limit, key)
  return limit.base .. ':line:' .. redis.sha1hex(key)
end

local function join_queue(limit, key, waiting_id)
  if redis.call('RPUSH', queue_of_key(limit, key), waiting_id) == 1 then
    redis.call('RPUSH', limit.base .. ':ring', redis.sha1hex(key))
  end
end

-- Moves queued deliveries to the group's inbox, as far as the limit admits; each holds a permit from then on.
-- Raises when the inbox takes no entry, or a key of the limit is damaged.
local function serve(registry, due, waiting, limit, now)
  local ring = limit.base .. ':ring'
  for _ = 1, MAX_SERVED do
    if is_full(limit) or opens_in(limit, now) > 0 then return end
    local key = redis.call('LINDEX', ring, 0)
    if not key then return end
    local queue = limit.base .. ':line:' .. key
    local target, entry = leave_queue(registry, due, waiting, redis.call('LINDEX', queue, 0) or '')
    if target then
      redis.call('ZADD', limit.base .. ':held', now, target .. ' ' .. entry)
      take_token(limit, now)
    end
    redis.call('LPOP', queue)
    redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    if redis.call('EXISTS', queue) == 0 then redis.call('RPOP', ring) end
  end
end

-- Stores when the limit is to be served again, and lets an idle limit expire.
local function close(limits, limit, now)
  local queued = has_queue(limit)
  if limit.interval > 0 then redis.call('HSET', limit.base, 'tat', string.format('%.3f', limit.tat)) end
  if queued or redis.call('EXISTS', limit.base .. ':held') == 1 then
    local at = NEVER
    if queued and not is_full(limit) then at = math.ceil(now + opens_in(limit, now)) end
    redis.call('ZADD', limits, at, limit.name)
    redis.call('PERSIST', limit.base)
  else
    redis.call('ZREM', limits, limit.name)
    redis.call('PEXPIRE', limit.base, math.ceil(math.max(0, limit.tat - now)) + 60000)
  end
end

local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- Both for one limit by its name. One that cannot be served is tried again later, so that it does not delay others.
local function serve_and_close(registry, due, waiting, limits, name, now)
  local limit = limit_of(limits, name)
  local served, problem = pcall(serve, registry, due, waiting, limit, now)
  if served then
    close(limits, limit, now)
  else
    redis.call('ZADD', limits, now + LATER, name)
    error(problem)
  end
end

-- ms until a queue may be served, -1 when none waits for time to pass
local function next_opening(limits, now)
  local head = try('ZRANGE', limits, 0, 0, 'WITHSCORES') or {}
  if not head[2] or tonumber(head[2]) >= NEVER then return -1 end
  return math.max(0, math.ceil(tonumber(head[2]) - now))
end
