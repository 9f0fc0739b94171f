-- Included by the scripts that end the turn of a message in an ordered group: not a script of its own. After append.lua
-- and books.lua. `turns` is a hash, ordering key -> origin of the message whose turn it is; TURNS:sha1(key) is the line
-- behind it, a list of waiting ids. Who stands in line is kept as everything that waits is, but is never due.
-- pass_turn(registry, due, waiting, turns, key, origin): if it is the turn of `origin`, the next in line is added to the
-- group's inbox, and it is its turn.
-- Invariant: a line exists only while somebody has the turn; the next one has it before the last one is forgotten.

local function field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return ''
end

local function line_of(turns, key)
  return turns .. ':' .. redis.sha1hex(key)
end

local function pass_turn(registry, due, waiting, turns, key, origin)
  if redis.call('HGET', turns, key) ~= origin then return end
  local line = line_of(turns, key)
  while true do
    local id = redis.call('LINDEX', line, 0)
    if not id then
      redis.call('HDEL', turns, key)
      return
    end
    local packed = redis.call('HGET', waiting, id)
    local read, fields = pcall(cmsgpack.unpack, packed or '')
    local found = packed and read and type(fields) == 'table'
    if found then
      local target = table.remove(fields, 1)
      append(registry, target, fields)
      redis.call('HSET', turns, key, field_of(fields, 'origin'))
      book('released ' .. short(target), redis.call('ZREM', due, id))
      redis.call('HDEL', waiting, id)
    end
    redis.call('LPOP', line)  -- it has its turn, or was called off while it stood in line
    if found then return end
  end
end
