-- Included by the scripts that add to streams: not a script of its own.
-- append(registry, key, fields): XADD, and when that makes the stream, first the groups that read it, at 0.
-- Invariant: no entry exists that a registered group would not see (a group made at `$` afterwards would skip it).
local existing, added, created = {}, {}, {}  -- the last two are for the books

local function must_be(kind, key)
  local found = redis.call('TYPE', key).ok
  existing[key] = found ~= 'none'
  if found ~= kind and found ~= 'none' then
    error({err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. kind})
  end
end

local function append(registry, key, fields)
  if existing[key] == nil then must_be('stream', key) end
  if not existing[key] then
    local groups = redis.call('HGETALL', registry)
    for i = 1, #groups, 2 do
      if string.find(' ' .. groups[i + 1] .. ' ', ' ' .. key .. ' ', 1, true) then
        redis.call('XGROUP', 'CREATE', key, groups[i], '0', 'MKSTREAM')
      end
    end
    existing[key], created[key] = true, true
  end
  added[key] = (added[key] or 0) + 1
  return redis.call('XADD', key, '*', unpack(fields))
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
