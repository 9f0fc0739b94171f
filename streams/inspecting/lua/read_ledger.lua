#!lua flags=no-writes
-- Reads the ledger and what the streams hold, at one moment.
-- KEYS  1 the ledger  2 due  3.. streams, inboxes and dead letters
-- Returns {the ledger flat, length of due, per key of 3..: {length, entries added, first id, last id, greatest deleted
-- id, {group, pending, last delivered id, lag ('' unknown), ...}}, with {} for a key that does not exist}.
-- Invariant: changes nothing. In one script because under load no two reads see the same, and every difference between
-- them would be taken for a loss.

local rows = {}
for i = 3, #KEYS do
  local row, info = {}, redis.pcall('XINFO', 'STREAM', KEYS[i])
  if not info.err then
    local found = {}
    for at = 1, #info, 2 do found[info[at]] = info[at + 1] end
    local first = found['first-entry']
    local groups = {}
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[i])) do
      local detail = {}
      for at = 1, #group, 2 do detail[group[at]] = group[at + 1] end
      for _, value in ipairs({detail['name'], detail['pending'], detail['last-delivered-id'], detail['lag'] or ''}) do
        groups[#groups + 1] = value
      end
    end
    row = {
      found['length'], found['entries-added'], first and first[1] or '', found['last-generated-id'],
      found['max-deleted-entry-id'], groups,
    }
  end
  rows[#rows + 1] = row
end
local ledger, waiting = redis.pcall('HGETALL', KEYS[1]), redis.pcall('ZCARD', KEYS[2])
return {ledger.err and {} or ledger, type(waiting) == 'number' and waiting or 0, rows}
