#!lua flags=no-writes
-- Searches one page of a stream for entries in which a field has a value.
-- KEYS  1 stream
-- ARGV  1 XRANGE, or XREVRANGE to go backwards  2 where to begin  3 where to end  4 page size  5 field  6 value
-- Returns {how many were looked at, the id of the last one ('' for none), {{entry id, fields}, ...}}.
-- Invariant: changes nothing. The position of the field is taken from the entry before: an entry with the same fields in
-- the same order, as nearly all are, costs one comparison. An entry that does not match is not returned, nor its body.

local page = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4])
local name, value, at, found = ARGV[5], ARGV[6], 1, {}
for i = 1, #page do
  local fields = page[i][2]
  if fields[at] ~= name then
    for f = 1, #fields, 2 do
      if fields[f] == name then
        at = f
        break
      end
    end
  end
  if fields[at] == name and fields[at + 1] == value then found[#found + 1] = page[i] end
end
return {#page, #page > 0 and page[#page][1] or '', found}
