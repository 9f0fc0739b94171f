#!lua flags=allow-oom
-- Advances the queue of a key whose head is lost (its entry was deleted), or whose group is not ordered any more.
-- KEYS  1 due  2 waiting  3 groups  4 turns  5 inbox  6 the stream the head was first in, and last the ledger
-- ARGV  1 group  2 ordering key  3 head id  4 its entry id there  5 1 to advance in any case  6 the waiting id
--       it would have  7 the inbox was searched up to this entry: the head is not there
-- Returns 1 if the queue advanced.
-- Invariant: a message that is pending, waits, or is back in the inbox stays the head; all three are checked in one step.
-- The head of a key waits under an id that is known (settle.lua, park.lua), and what has come into the inbox
-- since it was searched is behind what was there: so the step costs the same however much waits or is there.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
local MAX_SINCE = 1000

local due, waiting, registry, heads, inbox, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
if redis.call('HGET', heads, ARGV[2]) ~= ARGV[3] then return 0 end
if ARGV[5] ~= '1' then
  local pending = redis.pcall('XPENDING', KEYS[6], group, ARGV[4], ARGV[4], 1)
  if not pending.err and pending[1] then return 0 end
  local score = try('ZSCORE', due, ARGV[6])
  if score and tonumber(score) < 9007199254740991 and try('HEXISTS', waiting, ARGV[6]) == 1 then return 0 end
  local since = try('XRANGE', inbox, '(' .. ARGV[7], '+', 'COUNT', MAX_SINCE) or {}
  if #since == MAX_SINCE then return 0 end  -- a later look finds it in less
  for _, entry in ipairs(since) do
    if head_id(entry[2], inbox, entry[1]) == ARGV[3] then return 0 end
  end
end
advance_queue(registry, due, waiting, heads, ARGV[2], ARGV[3])
ledger_add_published(added, created)
write_ledger()
return 1
