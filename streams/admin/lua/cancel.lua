#!lua flags=allow-oom
-- Cancels an event that has been published, in its stream or inbox, for every group that reads it.
-- KEYS  1 the stream  2 the cancellations  3 the ledger
-- ARGV  1 entry id  2 maximum number of cancel requests kept per group  3 number of strings, the record for the
--       cancellations (of an event whose stream no group reads), then per group: its name, the key of its cancel
--       requests, its control channel, the key of its history, history length, number of strings, history record
-- Returns {group, state, ...}: `cancelled` (it will not be delivered), `cancelling` (it has been delivered or may be at
-- any moment: its consumers are asked to stop it) or `delivered` (nothing of it is in this stream for that group).
-- Without a group in ARGV and at the stream the entry is deleted: {'', 'cancelled'}.
-- Invariant: an entry is deleted only if no group has it pending, and `cancelled` is returned only for groups that had
-- not read it: deleted under a running handler it would vanish instead of being settled. When an entry is deleted from an
-- inbox, the queue of its key advances, and the limit that had admitted it is released.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
-- include settling/limits.lua

local stream, id = KEYS[1], ARGV[1]
local answer, unread, running = {}, {}, {}
local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then return answer end

local function parts(text)
  local ms, seq = string.match(text, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local groups = redis.call('XINFO', 'GROUPS', stream)
local record_length, record = tonumber(ARGV[3]), {}
if record_length > 0 then
  if #groups > 0 then return answer end
  for i = 1, record_length do record[i] = ARGV[3 + i] end
  redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', unpack(record))
  ledger_add('removed ' .. short(stream), redis.call('XDEL', stream, id))
  write_ledger()
  return {'', 'cancelled'}
end

local read = {}
for _, info in ipairs(groups) do
  local name, last
  for i = 1, #info, 2 do
    if info[i] == 'name' then name = info[i + 1] end
    if info[i] == 'last-delivered-id' then last = info[i + 1] end
  end
  local last_ms, last_seq = parts(last)
  local ms, seq = parts(id)
  read[name] = ms < last_ms or (ms == last_ms and seq <= last_seq)
end

local at = 4
while at <= #ARGV do
  local group = {name = ARGV[at], requests = ARGV[at + 1], channel = ARGV[at + 2], history = ARGV[at + 3], record = {}}
  group.length = ARGV[at + 4]
  local count = tonumber(ARGV[at + 5])
  for i = 1, count do group.record[i] = ARGV[at + 5 + i] end
  at = at + 6 + count
  if not read[group.name] then
    unread[#unread + 1] = group
  elseif redis.call('XPENDING', stream, group.name, id, id, 1)[1] then
    running[#running + 1] = group
  else
    answer[#answer + 1] = group.name
    answer[#answer + 1] = 'delivered'
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function request_cancel(group)
  redis.pcall('ZADD', group.requests, now, stream .. ' ' .. id)
  redis.pcall('ZREMRANGEBYRANK', group.requests, 0, -1 - tonumber(ARGV[2]))
  redis.call('PUBLISH', group.channel, 'cancel ' .. stream .. ' ' .. id)
  answer[#answer + 1] = group.name
  answer[#answer + 1] = 'cancelling'
end

for _, group in ipairs(running) do request_cancel(group) end
for _, group in ipairs(unread) do
  if #running > 0 then
    request_cancel(group)
  else
    redis.pcall('XADD', group.history, 'MAXLEN', '~', group.length, '*', unpack(group.record))
    ledger_add('cancelled ' .. group.name .. ' ' .. short(stream), 1)
    answer[#answer + 1] = group.name
    answer[#answer + 1] = 'cancelled'
  end
end
local function leave_inbox(tag, group, fields)
  local registry, due, waiting, limits = tag .. 'groups', tag .. 'due', tag .. 'waiting', tag .. 'limits:' .. group
  pcall(advance_queue, registry, due, waiting, tag .. 'turns:' .. group, field_of(fields, 'partitionkey'), head_id(fields))
  local name = field_of(fields, 'limitedby')
  if name ~= '' and try('ZREM', limits .. ':' .. name .. ':held', stream .. ' ' .. id) == 1 then
    pcall(serve_and_close, registry, due, waiting, limits, name, clock_ms())
  end
end

if #unread > 0 and #running == 0 then
  local inbox_at, after = string.find(stream, '}:inbox:', 1, true)
  if inbox_at then leave_inbox(string.sub(stream, 1, inbox_at + 1), string.sub(stream, after + 1), entry[2]) end
  ledger_add('removed ' .. short(stream), redis.call('XDEL', stream, id))
  ledger_add_published(added, created)
  write_ledger()
end
return answer
