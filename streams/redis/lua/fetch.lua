#!lua flags=no-writes
-- Reads single entries of a stream.
-- KEYS  1 stream     ARGV  1 bytes from which an entry is returned without its data (see cut.lua)  2.. entry ids
-- Returns {{entry id, fields}, ...} of those that exist.
-- Invariant: changes nothing.
-- include redis/cut.lua

local found, max_bytes = {}, tonumber(ARGV[1])
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then found[#found + 1] = {entry[1], cut(entry[2], max_bytes)} end
end
return found
