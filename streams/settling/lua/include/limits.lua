-- Included by the scripts that let deliveries of limited handlers run: not a script of its own. After append.lua,
-- ledger.lua and park.lua. A limit's place P = LIMITS:NAME is a hash (what, interval in ms between two starts (0: no
-- rate), burst, most at once (0: any number), tat: when the next start is due in theory); P:held is a zset of what it has
-- let in, `source entry-id` -> when in ms; P:ring a list of keys (hashed) that have somebody in line, P:line:KEY the line
-- of one. LIMITS itself is a zset of those in use, with when somebody in line may be let in (NEVER: when somebody ends).
-- Invariant: who is in `held` is pending in the group, or in its inbox on the way to being so; never more than `most`.
-- Who stands in line is let in one key after the other, and of one key the first first.
local NEVER = 9007199254740991
local SERVED_MOST = 1000  -- in one call: a line of cancelled ones may be long
local LATER = 60000  -- ms until a limit is tried again whose keys are damaged, or whose inbox takes no entry

local function number(text, otherwise)  -- what is no number, or no finite one, is as if it were not there
  local value = tonumber(text or '')
  if not value or value ~= value or math.abs(value) > NEVER then return otherwise end
  return value
end

local function limit_of(limits, name)
  local place = limits .. ':' .. name
  local told = redis.call('HMGET', place, 'interval', 'burst', 'most', 'tat')
  return {
    name = name, place = place, interval = number(told[1], 0), burst = number(told[2], 1), most = number(told[3], 0),
    tat = number(told[4], 0),
  }
end

-- ms until its rate admits the next start (a generic cell rate: `burst` at once, then one an interval); never more than
-- an interval, whatever time has been written there
local function opens_in(limit, now)
  if limit.interval == 0 then return 0 end
  return math.min(limit.interval, math.max(0, limit.tat - (limit.burst - 1) * limit.interval - now))
end

local function is_full(limit)
  return limit.most > 0 and redis.call('ZCARD', limit.place .. ':held') >= limit.most
end

local function has_line(limit)
  return redis.call('EXISTS', limit.place .. ':ring') == 1
end

local function take_token(limit, now)
  if limit.interval > 0 then
    limit.tat = math.max(now, math.min(limit.tat, now + limit.burst * limit.interval)) + limit.interval
  end
end

local function line_of_key(limit, key)
  return limit.place .. ':line:' .. redis.sha1hex(key)
end

local function join_line(limit, key, waiting_id)
  if redis.call('RPUSH', line_of_key(limit, key), waiting_id) == 1 then
    redis.call('RPUSH', limit.place .. ':ring', redis.sha1hex(key))
  end
end

-- Lets in who stands in line, as far as the limit admits; each goes to the group's inbox and is held from then on.
-- Raises when the inbox takes no entry, or a key of the limit is damaged.
local function serve(registry, due, waiting, limit, now)
  local ring = limit.place .. ':ring'
  for _ = 1, SERVED_MOST do
    if is_full(limit) or opens_in(limit, now) > 0 then return end
    local key = redis.call('LINDEX', ring, 0)
    if not key then return end
    local line = limit.place .. ':line:' .. key
    local target, entry = leave_line(registry, due, waiting, redis.call('LINDEX', line, 0) or '')
    if target then
      redis.call('ZADD', limit.place .. ':held', now, target .. ' ' .. entry)
      take_token(limit, now)
    end
    redis.call('LPOP', line)
    redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    if redis.call('EXISTS', line) == 0 then redis.call('RPOP', ring) end
  end
end

-- Writes down when it is to be looked at again, and lets an idle limit be forgotten.
local function close(limits, limit, now)
  local standing = has_line(limit)
  if limit.interval > 0 then redis.call('HSET', limit.place, 'tat', string.format('%.3f', limit.tat)) end
  if standing or redis.call('EXISTS', limit.place .. ':held') == 1 then
    local at = NEVER
    if standing and not is_full(limit) then at = math.ceil(now + opens_in(limit, now)) end
    redis.call('ZADD', limits, at, limit.name)
    redis.call('PERSIST', limit.place)
  else
    redis.call('ZREM', limits, limit.name)
    redis.call('PEXPIRE', limit.place, math.ceil(math.max(0, limit.tat - now)) + 60000)
  end
end

local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- Both for one limit by its name. One that cannot be served is left for a while: others are not kept waiting by it.
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

-- ms until a line may be served, -1 when none waits for time to pass
local function next_opening(limits, now)
  local head = try('ZRANGE', limits, 0, 0, 'WITHSCORES') or {}
  if not head[2] or tonumber(head[2]) >= NEVER then return -1 end
  return math.max(0, math.ceil(tonumber(head[2]) - now))
end
