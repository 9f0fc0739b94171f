#!lua flags=allow-oom
-- Reads for a group that handles one message of an ordering key at a time, in the order of the stream.
-- KEYS  1 due  2 waiting  3 turns  4 inbox  5.. the streams to read, and last the ledger
-- ARGV  1 group  2 consumer  3 maximum number per stream  4 the score of what is never due  5 bytes from which an entry
--       is returned without its data (see cut.lua)  6 maximum number of names and values of an entry
--       7 maximum bytes of a key
-- Returns {how many were read, {{stream, {{entry id, fields}, ...}}, ...} of those that are the head of their key's
-- queue, and when nothing was read, the last delivered id of each stream}.
-- Invariant: reading and becoming the head are one step: in two, the consumer that read the later message could be the
-- first to ask. A message that has to wait is added to what waits, with its position in the queue, before it is acked: it
-- is not pending for a consumer, so that one busy key delays no other. A message that no handler will run for (it has
-- too many fields, or too much data) is not queued. Types are checked first: once entries are read, nothing may raise.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
-- include redis/cut.lua

local MAX_READ_BYTES = 8 * 1024 * 1024

local group, order = ARGV[1], {
  group = ARGV[1], due = KEYS[1], waiting = KEYS[2], heads = KEYS[3], inbox = KEYS[4], never = ARGV[4],
  strings = tonumber(ARGV[6]), bytes = tonumber(ARGV[7]),
}
must_be('zset', order.due)
must_be('hash', order.waiting)
must_be('hash', order.heads)
-- True if an entry is the head of its key's queue; if not, it waits in the queue now.
local function may_begin(source, entry)
  local fields = entry[2]
  entry[2] = cut(fields, tonumber(ARGV[5]))
  return entry[2] ~= fields or enter_queue(order, source, entry[1], fields)
end

-- A little at first, and more while entries are small: Redis limits a read by entries alone, and holds it in memory.
local number, found, size, remaining, step = 0, {}, 0, tonumber(ARGV[3]), 4
while remaining > 0 and size < MAX_READ_BYTES do
  local count = math.min(remaining, step)
  local command = {'XREADGROUP', 'GROUP', group, ARGV[2], 'COUNT', count, 'STREAMS'}
  for i = 5, #KEYS - 1 do command[#command + 1] = KEYS[i] end
  for i = 5, #KEYS - 1 do command[#command + 1] = '>' end
  local reply, before = redis.call(unpack(command)) or {}, size
  local longest = 0
  for _, stream in ipairs(reply) do
    local source, entries = stream[1], {}
    longest = math.max(longest, #stream[2])
    for _, entry in ipairs(stream[2]) do
      number = number + 1
      for i = 2, #entry[2], 2 do size = size + #entry[2][i] end
      local could, is_head = pcall(may_begin, source, entry)
      -- What could not be made to wait is returned: nothing would know of it otherwise.
      if not could or is_head then entries[#entries + 1] = entry end
    end
    if #entries > 0 then found[#found + 1] = {source, entries} end
  end
  remaining = remaining - count
  if longest < count then break end
  if size - before < MAX_READ_BYTES / 8 then step = step * 8 else step = 1 end
end
write_ledger()
local last = {}
if number == 0 then
  for i = 5, #KEYS - 1 do
    last[#last + 1] = '0-0'
    for _, attributes in ipairs(redis.call('XINFO', 'GROUPS', KEYS[i])) do
      local name, at
      for j = 1, #attributes, 2 do
        if attributes[j] == 'name' then name = attributes[j + 1] end
        if attributes[j] == 'last-delivered-id' then at = attributes[j + 1] end
      end
      if name == group then last[#last] = at end
    end
  end
end
return {number, found, last}
