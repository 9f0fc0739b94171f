-- Included by the scripts that order messages by key: not a script of its own. After append.lua, ledger.lua and park.lua.
-- `heads` (the key TURNS) is a hash: ordering key -> head id of the message that may be handled now, which is its origin,
-- with `#N` if it is the Nth replay, which may exist beside its original. TURNS:sha1(key) is the queue behind the head, a
-- list of waiting ids. A queued message is stored as everything that waits is, but is never due.
-- advance_queue(registry, due, waiting, heads, key, head): if `head` is the head, the next message of the queue is added
-- to the group's inbox and is the head. Raises when the inbox takes no entry: the head stays, and a later look advances.
-- Invariant: a queue exists only while it has a head; the next head is set before the last one is forgotten.
local MAX_ADVANCED = 1000  -- that were cancelled, or cannot be read: a longer queue is advanced in several looks

local function queue_of(heads, key)
  return heads .. ':' .. redis.sha1hex(key)
end

-- The origin of a message. The field is read only in the inbox, which only the engine writes.
local function head_id(fields, source, id)
  local origin, replays = field_of(fields, 'origin'), field_of(fields, 'replays')
  if origin == '' then return source .. ' ' .. id end
  return (replays == '' or replays == '0') and origin or origin .. '#' .. replays
end

-- enter_queue(order, source, id, fields, deliveries): true if a pending entry is the head of its key's queue and may be
-- handled now; if not, it waits in the queue, and is pending no more. `order` has the keys and names (group, due,
-- waiting, heads, inbox), `never` (the score of what is never due), and the limits `strings` of an entry and `bytes` of a
-- key. An entry above these, which no handler will run for, is not queued. `deliveries` as for park.
local function enter_queue(order, source, id, fields, deliveries)
  local key = field_of(fields, 'partitionkey')
  if key == '' or #fields > order.strings or #key > order.bytes then return true end
  local own = source == order.inbox and head_id(fields, source, id) or source .. ' ' .. id
  local head = redis.call('HGET', order.heads, key)
  if not head then redis.call('HSET', order.heads, key, own) end
  if not head or head == own then return true end
  local queue = queue_of(order.heads, key)
  if not fits('list', queue) then redis.call('DEL', queue) end
  local waiting_id = park(
    order.group, order.inbox, order.due, order.waiting, source, id, fields, order.never, deliveries
  )
  redis.call('RPUSH', queue, waiting_id)
  return false
end

local function advance_queue(registry, due, waiting, heads, key, head)
  if try('HGET', heads, key) ~= head then return end
  local queue = queue_of(heads, key)
  for _ = 1, MAX_ADVANCED do
    local id = try('LINDEX', queue, 0)
    if not id then
      redis.call('HDEL', heads, key)
      return
    end
    local target, _, fields = leave_queue(registry, due, waiting, id)
    if target then redis.call('HSET', heads, key, head_id(fields)) end
    redis.call('LPOP', queue)  -- it is the head, or was cancelled while it was queued
    if target then return end
  end
end
