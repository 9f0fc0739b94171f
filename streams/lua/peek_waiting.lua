#!lua flags=no-writes
-- Reads messages that wait, for people who ask where an event is.
-- KEYS  1 due  2 waiting     ARGV  1 event id ('': any)  2.. waiting ids
-- Returns {{waiting id, due in ms since 1970, key of the stream it waits for, fields}, ...} of those that carry the id.
-- Invariant: changes nothing. In Lua because the messages are packed with cmsgpack, which Python would need a library for.

local found = {}
for i = 2, #ARGV do
  local packed, due = redis.call('HGET', KEYS[2], ARGV[i]), redis.call('ZSCORE', KEYS[1], ARGV[i])
  if packed and due then
    local fields = cmsgpack.unpack(packed)
    local key = table.remove(fields, 1)
    local id = ''
    for at = 1, #fields, 2 do
      if fields[at] == 'id' then id = fields[at + 1] end
    end
    if ARGV[1] == '' or id == ARGV[1] then found[#found + 1] = {ARGV[i], tonumber(due), key, fields} end
  end
end
return found
