-- Included by the scripts that add to streams: not a script of its own.
-- append(registry, key, fields): XADD, and when that makes the stream, first the groups that read it, at 0. Raises what
-- Redis answers when the key is no stream, or takes no entry any more; nothing is changed then.
-- try(command, ...): its reply, or nil and the error: for a key that others may have damaged.
-- Invariant: no entry exists that a registered group would not see (a group made at `$` afterwards would skip it).
local existing, added, created = {}, {}, {}  -- the last two are for the ledger

local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then return nil, reply.err end
  return reply
end

local function reason_of(problem)  -- of what pcall caught, in one line
  return type(problem) == 'table' and problem.err or tostring(problem)
end

local function fits(kind, key)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none', found
end

local function must_be(kind, key)
  local good, found = fits(kind, key)
  existing[key] = found ~= 'none'
  if not good then error({err = 'WRONGTYPE ' .. key .. ' holds a ' .. found .. ', not a ' .. kind}) end
end

local function append(registry, key, fields)
  if existing[key] == nil then must_be('stream', key) end
  if not existing[key] then
    local groups = try('HGETALL', registry) or {}  -- a damaged registry: each consumer makes its group at 0 itself
    for i = 1, #groups, 2 do
      if string.find(' ' .. groups[i + 1] .. ' ', ' ' .. key .. ' ', 1, true) then
        redis.pcall('XGROUP', 'CREATE', key, groups[i], '0', 'MKSTREAM')
      end
    end
    existing[key], created[key] = true, true
  end
  local id = redis.call('XADD', key, '*', unpack(fields))
  added[key] = (added[key] or 0) + 1
  return id
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
