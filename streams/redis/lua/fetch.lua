#!lua flags=no-writes
-- Reads single entries of a stream.
-- KEYS  1 stream     ARGV  1 bytes from which an entry is handed over without its data (see cut.lua)  2.. entry ids
-- Returns {{entry id, fields}, ...} of those that are there.
-- Invariant: changes nothing.
-- include redis/cut.lua

local found, most = {}, tonumber(ARGV[1])
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then found[#found + 1] = {entry[1], cut(entry[2], most)} end
end
return found
