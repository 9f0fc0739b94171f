#!lua flags=allow-oom
-- Reads for a group that handles one message of an ordering key at a time, in the order of the stream.
-- KEYS  1 due  2 waiting  3 turns  4 inbox  5.. the streams to read, and last the books
-- ARGV  1 group  2 consumer  3 most per stream  4 the score of what is never due  5 bytes from which an entry is handed
--       over without its data (see cut.lua)  6 most names and values of an entry
--       7 most bytes of a key
-- Returns {how many were read, {{stream, {{entry id, fields}, ...}}, ...} of those whose turn it is, and when nothing was
-- read, the last delivered id of each stream}.
-- Invariant: reading and taking a turn are one step: in two, the consumer that read the later message could be the
-- first to ask. Who has to stand in line is added to what waits, with its place in line, before it is acked: it takes
-- no place in a consumer's hands, so that one busy key keeps no other waiting. What no handler will run for (it has too
-- many fields, or too much data) has no turn. Types are asked first: once entries are read, nothing may raise.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
-- include redis/cut.lua

local READ_MOST = 8 * 1024 * 1024

local group, order = ARGV[1], {
  group = ARGV[1], due = KEYS[1], waiting = KEYS[2], turns = KEYS[3], inbox = KEYS[4], never = ARGV[4],
  strings = tonumber(ARGV[6]), bytes = tonumber(ARGV[7]),
}
must_be('zset', order.due)
must_be('hash', order.waiting)
must_be('hash', order.turns)
-- Whether it is the turn of an entry; if not, it waits for it now.
local function may_begin(source, entry)
  local fields = entry[2]
  entry[2] = cut(fields, tonumber(ARGV[5]))
  return entry[2] ~= fields or take_turn(order, source, entry[1], fields)
end

-- A little at first, and more while entries are small: Redis limits a read by entries alone, and holds it in memory.
local number, found, size, left, step = 0, {}, 0, tonumber(ARGV[3]), 4
while left > 0 and size < READ_MOST do
  local count = math.min(left, step)
  local command = {'XREADGROUP', 'GROUP', group, ARGV[2], 'COUNT', count, 'STREAMS'}
  for i = 5, #KEYS - 1 do command[#command + 1] = KEYS[i] end
  for i = 5, #KEYS - 1 do command[#command + 1] = '>' end
  local reply, before = redis.call(unpack(command)) or {}, size
  local most = 0
  for _, stream in ipairs(reply) do
    local source, entries = stream[1], {}
    most = math.max(most, #stream[2])
    for _, entry in ipairs(stream[2]) do
      number = number + 1
      for i = 2, #entry[2], 2 do size = size + #entry[2][i] end
      local could, is_its_turn = pcall(may_begin, source, entry)
      -- What could not be made to wait is handed over: nothing would know of it otherwise.
      if not could or is_its_turn then entries[#entries + 1] = entry end
    end
    if #entries > 0 then found[#found + 1] = {source, entries} end
  end
  left = left - count
  if most < count then break end
  if size - before < READ_MOST / 8 then step = step * 8 else step = 1 end
end
write_books()
local last = {}
if number == 0 then
  for i = 5, #KEYS - 1 do
    last[#last + 1] = '0-0'
    for _, told in ipairs(redis.call('XINFO', 'GROUPS', KEYS[i])) do
      local name, at
      for j = 1, #told, 2 do
        if told[j] == 'name' then name = told[j + 1] end
        if told[j] == 'last-delivered-id' then at = told[j + 1] end
      end
      if name == group then last[#last] = at end
    end
  end
end
return {number, found, last}
