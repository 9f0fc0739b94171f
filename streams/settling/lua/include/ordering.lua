-- Included by the scripts that end the turn of a message in an ordered group: not a script of its own. After append.lua,
-- ledger.lua and park.lua. `turns` is a hash, ordering key -> whose turn it is: the origin of the message, and `#N` if it is
-- the Nth replay, which may be there beside its original. TURNS:sha1(key) is the line behind it, a list of waiting ids.
-- Who stands in line is kept as everything that waits is, but is never due.
-- pass_turn(registry, due, waiting, turns, key, whose): if it is their turn, the next in line is added to the group's
-- inbox, and it is its turn. Raises when the inbox takes no entry: the turn stays, and is passed by a later look.
-- Invariant: a line exists only while somebody has the turn; the next one has it before the last one is forgotten.
local PASSED_MOST = 1000  -- that were cancelled, or cannot be read: a longer line is passed in several looks

local function line_of(turns, key)
  return turns .. ':' .. redis.sha1hex(key)
end

-- Where a message was first is believed of what came back to the inbox, which only the engine writes.
local function whose_turn(fields, source, id)
  local origin, replays = field_of(fields, 'origin'), field_of(fields, 'replays')
  if origin == '' then return source .. ' ' .. id end
  return (replays == '' or replays == '0') and origin or origin .. '#' .. replays
end

-- take_turn(order, source, id, fields, deliveries): whether an entry that is pending may be handed over now; if not, it
-- waits behind the one of its key that has the turn, and is pending no more. `order` has the keys and names (group, due,
-- waiting, turns, inbox), `never` the score of what is never due, and the most `strings` of an entry and `bytes` of a key.
-- What no handler will run for, since it has more, has no turn. `deliveries` as for park.
local function take_turn(order, source, id, fields, deliveries)
  local key = field_of(fields, 'partitionkey')
  if key == '' or #fields > order.strings or #key > order.bytes then return true end
  local own = source == order.inbox and whose_turn(fields, source, id) or source .. ' ' .. id
  local whose = redis.call('HGET', order.turns, key)
  if not whose then redis.call('HSET', order.turns, key, own) end
  if not whose or whose == own then return true end
  local line = line_of(order.turns, key)
  if not fits('list', line) then redis.call('DEL', line) end
  local waiting_id = park(
    order.group, order.inbox, order.due, order.waiting, source, id, fields, order.never, deliveries
  )
  redis.call('RPUSH', line, waiting_id)
  return false
end

local function pass_turn(registry, due, waiting, turns, key, whose)
  if try('HGET', turns, key) ~= whose then return end
  local line = line_of(turns, key)
  for _ = 1, PASSED_MOST do
    local id = try('LINDEX', line, 0)
    if not id then
      redis.call('HDEL', turns, key)
      return
    end
    local target, _, fields = leave_line(registry, due, waiting, id)
    if target then redis.call('HSET', turns, key, whose_turn(fields)) end
    redis.call('LPOP', line)  -- it has its turn, or was called off while it stood in line
    if target then return end
  end
end
