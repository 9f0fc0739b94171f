#!lua flags=no-writes
-- Searches a part of a stream for entries in which a field has one of some values.
-- KEYS  1 stream
-- ARGV  1 XRANGE, or XREVRANGE to go backwards  2 where to begin  3 where to end  4 most entries to look at
--       5 most bytes to look at, more or less  6 field  7.. values
-- Returns {how many were looked at, the id of the last one ('' for none), 1 at the end of the range or 0,
-- {{entry id, fields}, ...}}.
-- Invariant: changes nothing. The position of the field is taken from the entry before: an entry with the same fields in
-- the same order, as nearly all are, costs one comparison. An entry that does not match is not returned, nor its body.
-- Pages begin with one entry and double, so that few large bodies are read at once.

local left, bytes, first, name = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[2], ARGV[6]
local wanted, at, found, seen, last, count, ended = {}, 1, {}, 0, '', 1, 0
for i = 7, #ARGV do wanted[ARGV[i]] = true end
while left > 0 and bytes > 0 and ended == 0 do
  count = math.min(count, left)
  local page = redis.call(ARGV[1], KEYS[1], first, ARGV[3], 'COUNT', count)
  if #page < count then ended = 1 end
  for i = 1, #page do
    local fields = page[i][2]
    for f = 2, #fields, 2 do bytes = bytes - #fields[f] end
    if fields[at] ~= name then
      for f = 1, #fields, 2 do
        if fields[f] == name then
          at = f
          break
        end
      end
    end
    if fields[at] == name and wanted[fields[at + 1]] then found[#found + 1] = page[i] end
  end
  if #page > 0 then
    seen, left, last = seen + #page, left - #page, page[#page][1]
    first = '(' .. last
  end
  count = math.min(count * 2, 64)
end
return {seen, last, ended, found}
