-- Included by the scripts that make a delivery wait, or end its wait: not a script of its own. After append.lua,
-- waiting.lua and ledger.lua.
-- park(group, inbox, due, waiting, source, id, fields, score, deliveries, more): what is pending under `id` is moved to
-- what waits, where its score says what for, and will come back through the group's inbox; `deliveries` are the
-- deliveries that count so far (nil: as its fields say), `more` is added to its fields. Returns its waiting id; raises
-- what Redis answers, with nothing changed.
-- Invariant: it is added to what waits before it is acked, so it is always in at least one place. Nothing else has its
-- waiting id, which is the one that its retries have, so that it can be found wherever it has been since. Only
-- the fields of a message are kept, and fields that only the engine may write are not taken from a public stream.
local KEPT = {
  'specversion', 'id', 'type', 'source', 'time', 'dataversion', 'partitionkey', 'correlationid', 'causationid',
  'traceparent', 'tracestate', 'data', 'expirytime',
}

local function field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return ''
end

local function set_field(fields, name, value)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      fields[i + 1] = value
      return
    end
  end
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end

local function name_of(group, source, id)
  return group .. ' ' .. string.gsub(short(source), '^stream:', '') .. ' ' .. id
end

-- The same without what a reader of the public streams ignores. A field that comes twice stays so: the entry is a dead
-- letter `invalid`, whether it had to wait or not.
local function message_of(fields)
  local known, twice, kept = {}, {}, {}
  for i = 1, #fields, 2 do
    if known[fields[i]] == nil then known[fields[i]] = fields[i + 1] else twice[fields[i]] = true end
  end
  for _, name in ipairs(KEPT) do
    for _ = 1, known[name] and (twice[name] and 2 or 1) or 0 do
      kept[#kept + 1] = name
      kept[#kept + 1] = known[name]
    end
  end
  return kept
end

local function park(group, inbox, due, waiting, source, id, fields, score, deliveries, more)
  local waiting_id = name_of(group, source, id)
  local origin = source == inbox and field_of(fields, 'origin') or ''
  if source ~= inbox then fields = message_of(fields) end
  if origin == '' then
    set_field(fields, 'origin', source .. ' ' .. id)
    set_field(fields, 'failures', '0')
    set_field(fields, 'deliveries', deliveries or '0')
    if field_of(fields, 'id') == '' then set_field(fields, 'id', id) end  -- a foreign entry's id is its event id
  else
    if deliveries then set_field(fields, 'deliveries', deliveries) end
    -- A replay has a number: its original may be running at the same time, or not even be read.
    local first, at = string.match(origin, '^(.*) (%S+)$')
    local replays = field_of(fields, 'replays')
    if first then
      local named = name_of(group, first, at)
      if replays ~= '' and replays ~= '0' then named = named .. '#' .. replays end
      if redis.call('HEXISTS', waiting, named) == 0 then waiting_id = named end
    end
  end
  for name, value in pairs(more or {}) do set_field(fields, name, value) end
  if #fields >= MAX_STRINGS then error({err = 'ERR ' .. source .. ' ' .. id .. ' has too many fields'}) end
  if not fits('zset', due) then error({err = 'WRONGTYPE ' .. due .. ' is no zset'}) end
  redis.call('HSET', waiting, waiting_id, cmsgpack.pack({inbox, unpack(fields)}))
  ledger_add('waited ' .. short(inbox), redis.call('ZADD', due, score, waiting_id))
  ledger_add('returned ' .. group .. ' ' .. short(source), redis.call('XACK', source, group, id))
  if source == inbox then redis.call('XDEL', source, id) end
  return waiting_id
end

-- leave_queue(registry, due, waiting, id): moves the first of a queue to its target stream; returns the stream, the entry
-- id there and the fields, or nothing when it was cancelled while it waited. One that cannot be read is due at
-- once, so that it is reported, and kept, with what else cannot be moved. Raises when the inbox takes no entry.
local function leave_queue(registry, due, waiting, id)
  local target, fields = read_waiting(waiting, id)
  if not target then
    if fields then redis.pcall('ZADD', due, now_ms(), id) end
    return
  end
  local entry = append(registry, target, fields)
  ledger_add('released ' .. short(target), try('ZREM', due, id) or 0)
  redis.call('HDEL', waiting, id)
  return target, entry, fields
end
