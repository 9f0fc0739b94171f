#!lua flags=allow-oom
-- Reads for a group that handles one message of an ordering key at a time, in the order of the stream.
-- KEYS  1 due  2 waiting  3 turns  4 inbox  5.. the streams to read, and last the books
-- ARGV  1 group  2 consumer  3 most per stream  4 the score of what is never due
-- Returns {how many were read, {{stream, {{entry id, fields}, ...}}, ...} of those whose turn it is, and when nothing was
-- read, the last delivered id of each stream}.
-- Invariant: reading and taking a turn are one step: in two, the consumer that read the later message could be the
-- first to ask. Who has to stand in line is added to what waits, with its place in line, before it is acked: it takes
-- no place in a consumer's hands, so that one busy key keeps no other waiting.
-- include append.lua
-- include books.lua
-- include line.lua
-- include turns.lua

local due, waiting, turns, inbox, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
must_be('zset', due)
must_be('hash', waiting)
must_be('hash', turns)
local command = {'XREADGROUP', 'GROUP', group, ARGV[2], 'COUNT', ARGV[3], 'STREAMS'}
for i = 5, #KEYS - 1 do command[#command + 1] = KEYS[i] end
for i = 5, #KEYS - 1 do command[#command + 1] = '>' end
local reply = redis.call(unpack(command)) or {}

local number, found = 0, {}
for _, stream in ipairs(reply) do
  local source, entries = stream[1], {}
  for _, entry in ipairs(stream[2]) do
    number = number + 1
    local id, fields = entry[1], entry[2]
    local key = field_of(fields, 'partitionkey')
    if key == '' then
      entries[#entries + 1] = entry
    else
      local own, whose = whose_turn(fields, source, id), redis.call('HGET', turns, key)
      if not whose then redis.call('HSET', turns, key, own) end
      if not whose or whose == own then
        entries[#entries + 1] = entry
      else
        local waiting_id = park(group, inbox, due, waiting, source, id, fields, ARGV[4])
        redis.call('RPUSH', line_of(turns, key), waiting_id)
      end
    end
  end
  if #entries > 0 then found[#found + 1] = {source, entries} end
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
