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
-- include append.lua
-- include waiting.lua
-- include books.lua
-- include line.lua
-- include turns.lua
-- include cut.lua

local READ_MOST = 8 * 1024 * 1024

local due, waiting, turns, inbox, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
must_be('zset', due)
must_be('hash', waiting)
must_be('hash', turns)
-- Whether it is the turn of an entry; if not, it stands in line now.
local function take_turn(source, entry)
  local id, fields = entry[1], entry[2]
  local key = field_of(fields, 'partitionkey')
  local whole = cut(fields, tonumber(ARGV[5]))
  if whole ~= fields or #fields > tonumber(ARGV[6]) or #key > tonumber(ARGV[7]) then
    entry[2] = whole
    return true
  end
  if key == '' then return true end
  local own = source == inbox and whose_turn(fields, source, id) or source .. ' ' .. id
  local whose = redis.call('HGET', turns, key)
  if not whose then redis.call('HSET', turns, key, own) end
  if not whose or whose == own then return true end
  local line = line_of(turns, key)
  if not fits('list', line) then redis.call('DEL', line) end
  redis.call('RPUSH', line, park(group, inbox, due, waiting, source, id, fields, ARGV[4]))
  return false
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
      local told, is_its_turn = pcall(take_turn, source, entry)
      -- What could not stand in line is handed over: nobody would know of it otherwise.
      if not told or is_its_turn then entries[#entries + 1] = entry end
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
