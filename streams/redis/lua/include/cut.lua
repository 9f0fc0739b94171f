-- Included by the scripts that return entries to consumers: not a script of its own.
-- cut(fields, max_bytes): the fields of an entry as they are, or, of one with more than `max_bytes`, only those that say
-- what it is, each up to 1,000 bytes, without the data and with `$bytes`, the size of the data: the entry itself stays.
-- Invariant: what a consumer gets in one reply is bounded, whatever has been put into a stream.
local CUT_TO = 1000

local function cut(fields, max_bytes)
  local size = 0
  for i = 1, #fields do size = size + #fields[i] end
  if size <= max_bytes then return fields end
  local short_ones, known, data = {}, {}, 0
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'data' and not known[name] then
      data = #value
      known[name] = true
    elseif #name <= 32 and name ~= '$bytes' and not known[name] and #short_ones < 64 then
      known[name] = true
      short_ones[#short_ones + 1] = name
      short_ones[#short_ones + 1] = string.sub(value, 1, CUT_TO)
    end
  end
  short_ones[#short_ones + 1] = '$bytes'
  short_ones[#short_ones + 1] = tostring(math.max(data, 1))
  return short_ones
end
