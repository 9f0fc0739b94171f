-- Included by the scripts that read what waits: not a script of its own.
-- read_waiting(waiting, id): the key of the stream it waits for, and its fields, flat; nothing when there is none under
-- that id, and nil with `true` when there is one that cannot be read.
-- Invariant: whatever others have written there, no script that reads it raises, and nothing is added to a key that is
-- no stream or inbox of this partition.
local MAX_STRINGS = 512  -- names and values: far more than any message has, and far less than what `unpack` can take

local function read_waiting(waiting, id)
  local packed = redis.pcall('HGET', waiting, id)
  if not packed then return end
  if type(packed) ~= 'string' then return nil, true end
  local read, fields = pcall(cmsgpack.unpack, packed)
  if not read or type(fields) ~= 'table' then return nil, true end
  local count = #fields
  if count < 3 or count % 2 == 0 or count > MAX_STRINGS then return nil, true end
  for i = 1, count do
    if type(fields[i]) ~= 'string' then return nil, true end
  end
  local key = table.remove(fields, 1)
  local tag = string.match(waiting, '^(.*}:)')
  if string.sub(key, 1, #tag) ~= tag or not string.find(key, '^stream:.', #tag + 1) and
    not string.find(key, '^inbox:.', #tag + 1) then return nil, true end
  return key, fields
end
