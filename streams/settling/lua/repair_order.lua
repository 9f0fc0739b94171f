#!lua flags=allow-oom
-- Passes the turn of a message that is nowhere any more (somebody deleted it), or that nobody orders any more.
-- KEYS  1 due  2 waiting  3 groups  4 turns  5 inbox  6 the stream it was first in, and last the books
-- ARGV  1 group  2 ordering key  3 whose turn it is  4 its entry id there  5 1 to pass it in any case  6 the waiting id
--       it would have  7 the inbox was looked through up to this entry: it is not there
-- Returns 1 if it was passed.
-- Invariant: a message that is pending, waits, or is back in the inbox keeps its turn; all three are asked in one step.
-- What has the turn of a key waits under an id that is known (settle.lua, park.lua), and what has come into the inbox
-- since it was looked through is behind what was there: so the step costs the same however much waits or is there.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
local SINCE_MOST = 1000

local due, waiting, registry, turns, inbox, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
if redis.call('HGET', turns, ARGV[2]) ~= ARGV[3] then return 0 end
if ARGV[5] ~= '1' then
  local pending = redis.pcall('XPENDING', KEYS[6], group, ARGV[4], ARGV[4], 1)
  if not pending.err and pending[1] then return 0 end
  local score = try('ZSCORE', due, ARGV[6])
  if score and tonumber(score) < 9007199254740991 and try('HEXISTS', waiting, ARGV[6]) == 1 then return 0 end
  local since = try('XRANGE', inbox, '(' .. ARGV[7], '+', 'COUNT', SINCE_MOST) or {}
  if #since == SINCE_MOST then return 0 end  -- a later look finds it in less
  for _, entry in ipairs(since) do
    if whose_turn(entry[2], inbox, entry[1]) == ARGV[3] then return 0 end
  end
end
pass_turn(registry, due, waiting, turns, ARGV[2], ARGV[3])
book_added(added, created)
write_books()
return 1
