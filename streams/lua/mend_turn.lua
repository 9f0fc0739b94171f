#!lua flags=allow-oom
-- Passes the turn of a message that is nowhere any more (somebody deleted it), or that nobody orders any more.
-- KEYS  1 due  2 waiting  3 groups  4 turns  5 inbox  6 the stream it was first in, and last the books
-- ARGV  1 group  2 ordering key  3 whose turn it is  4 its entry id there  5 1 to pass it in any case
-- Returns 1 if it was passed.
-- Invariant: a message that is pending, waits, or is back in the inbox keeps its turn; all three are asked in one step.
-- include append.lua
-- include books.lua
-- include line.lua
-- include turns.lua

local due, waiting, registry, turns, inbox, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1]
if redis.call('HGET', turns, ARGV[2]) ~= ARGV[3] then return 0 end
if ARGV[5] ~= '1' then
  local pending = redis.pcall('XPENDING', KEYS[6], group, ARGV[4], ARGV[4], 1)
  if not pending.err and pending[1] then return 0 end
  for _, entry in ipairs(redis.call('XRANGE', inbox, '-', '+', 'COUNT', 100000)) do
    if whose_turn(entry[2], inbox, entry[1]) == ARGV[3] then return 0 end
  end
  -- A retry waits under the place it came from, which is not known here: look at all that waits for the group.
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', waiting, cursor, 'MATCH', group .. ' *', 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local read, fields = pcall(cmsgpack.unpack, page[2][i + 1])
      if read and type(fields) == 'table' then
        table.remove(fields, 1)
        local score = redis.call('ZSCORE', due, page[2][i])
        if whose_turn(fields) == ARGV[3] and score and tonumber(score) < 9007199254740991 then return 0 end
      end
    end
  until cursor == '0'
end
pass_turn(registry, due, waiting, turns, ARGV[2], ARGV[3])
book_added(added, created)
write_books()
return 1
