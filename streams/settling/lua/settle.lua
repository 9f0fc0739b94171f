#!lua flags=allow-oom
-- Makes the outcomes of a batch of deliveries durable.
-- KEYS  1 due  2 waiting  3 dead  4 history  5 groups  6.. streams named by index below, and last the ledger
-- ARGV  1 group  2 consumer  3 history length  4 turns ('': the group is not ordered)  5 limits ('': it has none), then
--       per source stream: stream (index), 1 to delete what is settled (an inbox: no other group reads it), first and
--       last entry id (a hint), number of runs of plain acks, and per run: delivery count, number, entry ids; then number
--       of other deliveries, and per delivery: entry id, delivery count, in an ordered group its ordering key and its
--       head id, with limits the one that holds it (or ''), operation and its arguments:
--         f  done with follow-ups: number, per follow-up: stream, FIELDS      c  cancelled      x  expired
--         g  the same, one of a batch: the first `g` has the follow-ups of all (the number is 0 in the others), which
--            are published with the first of them that is still owned
--         w  wait: milliseconds, waiting id, FIELDS      b  back to the inbox: stream, FIELDS
--         d  dead letter: number of follow-ups, per follow-up: stream, FIELDS; then FIELDS of the letter
--       where FIELDS = number of strings, name, value, ...; every operation ends with the FIELDS of its history
--       record (0 for none).
-- Returns {positions (from 1, in the order given) of the deliveries that this consumer no longer owns, {position, why,
-- ...} of those that Redis refused}.
-- Invariant: a delivery is settled only if (consumer, delivery count) still own it: a stale owner changes nothing.
-- What is added (waiting, dead, follow-up) is added before the ack, since Lua does not roll back: a message is
-- always in at least one place. An outcome that cannot be written (a key is damaged, a stream takes no entry any more)
-- changes nothing, stays pending, and holds up no other; a history, queue or limit that cannot be written holds up none.
-- `allow-oom`: refusing to settle when memory is full would leave work that is done
-- pending for ever; publishers are refused instead.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
-- include settling/limits.lua

local group, consumer, history_length = ARGV[1], ARGV[2], ARGV[3]
local heads, limits, at = ARGV[4], ARGV[5], 6
local position, lost, refused, freed, shared = 0, {}, {}, {}, {}

local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function take_fields()
  local count = tonumber(take())
  local fields = {}
  for i = 1, count do fields[i] = ARGV[at + i - 1] end
  at = at + count
  return fields
end

local function take_messages()
  local messages = {}
  for i = 1, tonumber(take()) do messages[i] = {KEYS[5 + tonumber(take())], take_fields()} end
  return messages
end

local now = now_ms()

-- All of them or none: of several streams each is checked first, since what was added is not taken back.
local function append_all(messages)
  for i = 1, #messages do
    local key = messages[i][1]
    if #messages > 1 and not added[key] then
      must_be('stream', key)
      local info = existing[key] and redis.call('XINFO', 'STREAM', key) or {}
      for f = 1, #info, 2 do
        if info[f] == 'last-generated-id' and info[f + 1] == '18446744073709551615-18446744073709551615' then
          error({err = 'ERR ' .. key .. ' has exhausted the last possible ID'})
        end
      end
    end
  end
  for i = 1, #messages do append(KEYS[5], messages[i][1], messages[i][2]) end
end

while at <= #ARGV do
  local source, delete, first, last = KEYS[5 + tonumber(take())], take() == '1', take(), take()
  local owned, suffix = {}, ' ' .. group .. ' ' .. short(source)

  local function ack(ids, what)
    ledger_add(what .. suffix, redis.call('XACK', source, group, unpack(ids)))
    if delete then redis.call('XDEL', source, unpack(ids)) end
  end

  -- A vanished stream or group owns nothing: pcall, so that the other sources of the batch are settled.
  local pending = redis.pcall('XPENDING', source, group, first, last, 10000, consumer)
  local vanished = pending.err
  for i = 1, #pending do owned[pending[i][1]] = pending[i][4] end

  local function is_mine(id, count)
    local held = owned[id]
    if held == nil and not vanished then  -- outside the hinted range, or not ours
      local one = redis.call('XPENDING', source, group, id, id, 1, consumer)
      held = one[1] and one[1][4]
    end
    return held == count
  end

  for _ = 1, tonumber(take()) do
    local count, number, acks = tonumber(take()), tonumber(take()), {}
    for i = 1, number do
      local id = ARGV[at]
      at = at + 1
      if owned[id] == count or is_mine(id, count) then
        acks[#acks + 1] = id
      else
        lost[#lost + 1] = position + i
      end
    end
    position = position + number
    for from = 1, #acks, 1000 do
      ack({unpack(acks, from, math.min(from + 999, #acks))}, 'acked')
    end
  end
  for _ = 1, tonumber(take()) do
    local id, count, key, head = take(), tonumber(take()), '', ''
    if heads ~= '' then key, head = take(), take() end
    local limit = limits ~= '' and take() or ''
    local operation, over = take(), true
    position = position + 1
    local mine = is_mine(id, count)
    if not mine then lost[#lost + 1] = position end
    local what, add = 'acked'
    if operation == 'c' then
      what = 'cancelled'
    elseif operation == 'x' then
      what = 'expired'
    elseif operation == 'f' or operation == 'g' then
      local messages = take_messages()
      local number = #messages
      if operation == 'g' then
        if number > 0 then shared = messages end
        add = function()
          append_all(shared)
          shared = {}
        end
      elseif number > 0 then
        add = function() append_all(messages) end
      end
    elseif operation == 'w' then
      what, over = 'returned', false
      local due, waiting_id, fields = now + tonumber(take()), take(), take_fields()
      add = function()
        if not fits('zset', KEYS[1]) then error({err = 'WRONGTYPE ' .. KEYS[1] .. ' is no zset'}) end
        -- Two of the same origin (replays from history) may wait at once.
        if redis.call('HEXISTS', KEYS[2], waiting_id) == 1 then waiting_id = name_of(group, source, id) end
        redis.call('HSET', KEYS[2], waiting_id, cmsgpack.pack(fields))
        ledger_add('waited ' .. short(fields[1]), redis.call('ZADD', KEYS[1], due, waiting_id))
      end
    elseif operation == 'd' then
      local messages, fields = take_messages(), take_fields()
      what = 'dead'
      add = function()
        must_be('stream', KEYS[3])
        append_all(messages)
        redis.call('XADD', KEYS[3], '*', unpack(fields))
      end
    elseif operation == 'b' then
      what, over = 'returned', false
      local key, fields = KEYS[5 + tonumber(take())], take_fields()
      add = function() append(KEYS[5], key, fields) end
    else
      error({err = 'ERR settle: unknown operation ' .. operation})
    end
    local record = take_fields()
    local done, problem = true
    if mine and add then done, problem = pcall(add) end
    if not done then
      refused[#refused + 1] = position
      refused[#refused + 1] = reason_of(problem)
    elseif mine then
      if #record > 0 then
        redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', history_length, '*', unpack(record))
      end
      if over and key ~= '' then pcall(advance_queue, KEYS[5], KEYS[1], KEYS[2], heads, key, head) end
      ack({id}, what)
      if limit ~= '' and try('ZREM', limits .. ':' .. limit .. ':held', source .. ' ' .. id) == 1 then
        freed[limit] = true
      end
      owned[id] = false  -- the same delivery twice in one batch is settled once
    end
  end
end
for name in pairs(freed) do
  pcall(serve_and_close, KEYS[5], KEYS[1], KEYS[2], limits, name, clock_ms())
end
ledger_add_published(added, created)
write_ledger()
return {lost, refused}
