#!lua flags=no-writes
-- Reads messages that wait, for the commands that look for an event.
-- KEYS  1 due  2 waiting     ARGV  1 event id ('': any)  2.. waiting ids
-- Returns {{waiting id, due in ms since 1970, key of the stream it waits for, fields}, ...} of those that carry the id;
-- without one also of those that cannot be read, with '' for a key.
-- Invariant: changes nothing. In Lua because the messages are packed with cmsgpack, which Python would need a library for.
-- include settling/waiting.lua

local found = {}
for i = 2, #ARGV do
  local due = redis.pcall('ZSCORE', KEYS[1], ARGV[i])
  if type(due) == 'string' then
    local at = math.max(-9007199254740991, math.min(tonumber(due), 9007199254740991))
    local key, fields = read_waiting(KEYS[2], ARGV[i])
    local id = ''
    if key then
      for f = #fields - 1, 1, -2 do
        if fields[f] == 'id' then id = fields[f + 1] end
      end
    end
    if key and (ARGV[1] == '' or id == ARGV[1]) then
      found[#found + 1] = {ARGV[i], at, key, fields}
    elseif not key and ARGV[1] == '' then
      found[#found + 1] = {ARGV[i], at, '', {}}
    end
  end
end
return found
