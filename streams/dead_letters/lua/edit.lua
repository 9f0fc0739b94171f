#!lua flags=allow-oom
-- Replaces a dead letter by a corrected one.
-- KEYS  1 dead  2 history  3 the ledger
-- ARGV  1 history length  2 entry id, then FIELDS of the corrected one, FIELDS of the history record
--       (FIELDS = number of strings, name, value, ...)
-- Returns the corrected one's entry id, '' when the dead letter is gone.
-- Invariant: one of the two is there at any time, and the history has the original before it is deleted.
-- include redis/ledger.lua

if not redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1] then return '' end
local at = 3

local function take_fields()
  local fields = {}
  for i = 1, tonumber(ARGV[at]) do fields[i] = ARGV[at + i] end
  at = at + 1 + #fields
  return fields
end

local letter, record = take_fields(), take_fields()
redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', unpack(record))
local id = redis.call('XADD', KEYS[1], '*', unpack(letter))
redis.call('XDEL', KEYS[1], ARGV[2])
ledger_add('edited ' .. short(KEYS[1]), 1)
write_ledger()
return id
