#!lua flags=allow-oom
-- Removes the oldest entries of one stream, a limited number per call, and only those that every group has finished.
-- KEYS  1 stream  2 groups  3 the ledger
-- ARGV  1 maximum number to remove  2 number of entries to keep ('': any number)  3 age in ms from which an entry may be
--       removed ('': any age)  4 1 to change nothing  5 prefix of `data`: removed entries with it are returned ('': none)
--       6 the same age as a time (RFC 3339, UTC, to the second): for entries whose ids are ahead of the clock
-- Returns {removed, 1 if there may be more to remove, the group that keeps the next entry from removal or '', the first
-- id that must stay ('': the stream does not exist), the first id that is too young ('' when age does not matter), the
-- removed entries whose data has the prefix}.
-- Invariant: nothing is removed that is not below every group's lowest pending id and its last delivered id. That floor
-- is read in here: read outside, a group could be made, or begin to hold something, before the entries are gone. A
-- registered group that is not on the stream will be made at 0 and must find everything: it keeps all. Never by
-- MAXLEN, which counts entries and ignores groups. `~` with LIMIT drops whole nodes; the rest of a node is dropped exactly.
-- include redis/ledger.lua

local stream, max_removed, max_length, age = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function before(a, b)  -- as text, since 64 bits do not fit into Lua's numbers
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return #a_ms < #b_ms or (#a_ms == #b_ms and a_ms < b_ms) end
  return #a_seq < #b_seq or (#a_seq == #b_seq and a_seq < b_seq)
end

local function after(id)  -- the next id; at the end of a millisecond the same id: one entry stays a while longer
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if #seq > 15 then return id end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

local info = redis.pcall('XINFO', 'STREAM', stream)
if info.err then
  if string.find(info.err, 'no such key', 1, true) then return {0, 0, '', '', '', {}} end
  error(info)
end
local length, last
for i = 1, #info, 2 do
  if info[i] == 'length' then length = info[i + 1] end
  if info[i] == 'last-generated-id' then last = info[i + 1] end
end

local floor, holder, present = after(last), '', {}
for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  present[group['name']] = true
  local low = after(group['last-delivered-id'])
  if group['pending'] > 0 then
    local lowest = redis.call('XPENDING', stream, group['name'])[2]
    if lowest and before(lowest, low) then low = lowest end
  end
  if before(low, floor) then floor, holder = low, group['name'] end
end
local registered = redis.call('HGETALL', KEYS[2])
for i = 1, #registered, 2 do
  local reads = string.find(' ' .. registered[i + 1] .. ' ', ' ' .. stream .. ' ', 1, true)
  if reads and not present[registered[i]] then floor, holder = '0-0', registered[i] end
end

local cutoff, ahead = '', ''
if age then
  local time = redis.call('TIME')
  ahead = string.format('%.0f-0', time[1] * 1000 + 86400000)
  cutoff = string.format('%.0f-0', math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - age))
end
if ARGV[4] == '1' then return {0, 0, holder, floor, cutoff, {}} end

local removed, reported = 0, {}

local function report(entry)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'data' and string.sub(fields[i + 1], 1, #ARGV[5]) == ARGV[5] then reported[#reported + 1] = entry end
  end
end

local function trim(minid, surplus)  -- below `minid`, and at most `surplus` of them
  local room = math.min(max_removed - removed, surplus)
  if room < 1 then return end
  local gone = 0
  if ARGV[5] == '' then gone = redis.call('XTRIM', stream, 'MINID', '~', minid, 'LIMIT', room) end
  if gone == 0 then
    local page = redis.call('XRANGE', stream, '-', '(' .. minid, 'COUNT', math.min(room, 100))
    if ARGV[5] ~= '' then
      for _, entry in ipairs(page) do report(entry) end
    end
    if #page > 0 then gone = redis.call('XTRIM', stream, 'MINID', '=', after(page[#page][1])) end
  end
  removed = removed + gone
  length = length - gone
  return gone
end

-- An id that a publisher chose says nothing of its time, nor do those after it, which are larger. The entry's own time does,
-- as far as it has one.
local function trim_by_time()
  local page = redis.call('XRANGE', stream, '-', '(' .. floor, 'COUNT', math.min(max_removed - removed, 100))
  local upto
  for _, entry in ipairs(page) do
    local made = ''
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'time' and made == '' then made = entry[2][i + 1] end
    end
    local is_time = string.find(made, '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d')
    if before(entry[1], ahead) or (is_time and string.sub(made, 1, 19) >= ARGV[6]) then break end
    upto = entry[1]
  end
  if upto then trim(after(upto), length) end
end

if before('0-0', floor) then
  if age then
    trim(before(cutoff, floor) and cutoff or floor, length)
    if removed == 0 and ARGV[6] ~= '' and before(ahead, last) then trim_by_time() end
  end
  if max_length then trim(floor, length - max_length) end
end
if removed > 0 then
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  redis.pcall('HSET', KEYS[3], 'trimmed-to ' .. short(stream), first and first[1] or after(last))
  ledger_add('removed ' .. short(stream), removed)
  write_ledger()
end
return {removed, removed > 0 and 1 or 0, holder, floor, cutoff, reported}
