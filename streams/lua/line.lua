-- Included by the scripts that make a delivery stand in line, or let it go on: not a script of its own. After append.lua
-- and books.lua.
-- park(group, inbox, due, waiting, source, id, fields, score, deliveries, more): what is pending under `id` goes to what
-- waits, where its score says what for, and will come back through the group's inbox; `deliveries` are the hand-overs
-- that count so far (nil: as it says itself), `more` is added to its fields. Returns its waiting id.
-- Invariant: it is added to what waits before it is acked, so it is always in at least one place. Nothing else has its
-- waiting id, which is the one a retry of its first delivery had: its trail finds it wherever it has been since.

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

local function park(group, inbox, due, waiting, source, id, fields, score, deliveries, more)
  local waiting_id, origin = name_of(group, source, id), field_of(fields, 'origin')
  if origin == '' then
    set_field(fields, 'origin', source .. ' ' .. id)
    set_field(fields, 'failures', '0')
    set_field(fields, 'deliveries', deliveries or '0')
    if field_of(fields, 'id') == '' then set_field(fields, 'id', id) end  -- a foreign entry's id is its event id
  else
    if deliveries then set_field(fields, 'deliveries', deliveries) end
    -- Not a replay: its original may be in hand at the same time, or not even be read.
    local first, at = string.match(origin, '^(.*) (%S+)$')
    local replays = field_of(fields, 'replays')
    if first and (replays == '' or replays == '0') then
      local named = name_of(group, first, at)
      if redis.call('HEXISTS', waiting, named) == 0 then waiting_id = named end
    end
  end
  for name, value in pairs(more or {}) do set_field(fields, name, value) end
  redis.call('HSET', waiting, waiting_id, cmsgpack.pack({inbox, unpack(fields)}))
  book('waited ' .. short(inbox), redis.call('ZADD', due, score, waiting_id))
  book('returned ' .. group .. ' ' .. short(source), redis.call('XACK', source, group, id))
  if source == inbox then redis.call('XDEL', source, id) end
  return waiting_id
end

-- leave_line(registry, due, waiting, id): the first in a line goes to where it comes back from; returns where, its entry
-- id there and its fields, or nothing when it was called off while it stood in line.
local function leave_line(registry, due, waiting, id)
  local read, fields = pcall(cmsgpack.unpack, redis.call('HGET', waiting, id) or '')
  if not read or type(fields) ~= 'table' then return end
  local target = table.remove(fields, 1)
  local entry = append(registry, target, fields)
  book('released ' .. short(target), redis.call('ZREM', due, id))
  redis.call('HDEL', waiting, id)
  return target, entry, fields
end
