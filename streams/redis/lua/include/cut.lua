-- Included by the scripts that hand entries over: not a script of its own.
-- cut(fields, most): the fields of an entry as they are, or, of one with more than `most` bytes, only those that say what
-- it is, each up to 1,000 bytes, without the data and with `$bytes`, how many those are: the entry stays where it is.
-- Invariant: what a consumer is handed in one reply is bounded, whatever has been put into a stream.
local CUT_TO = 1000

local function cut(fields, most)
  local size = 0
  for i = 1, #fields do size = size + #fields[i] end
  if size <= most then return fields end
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
