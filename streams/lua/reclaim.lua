#!lua flags=allow-oom
-- Takes over what a silent consumer held, a page at a time.
-- KEYS  1 source stream
-- ARGV  1 group  2 consumer  3 lease in ms  4 cursor  5 most to look at  6 deaths from which it is a suspect  7 bytes from
--       which an entry is handed over without its data (see cut.lua)
-- Returns {next cursor, ids that vanished while pending, {{entry id, delivery count, 1 if counted, fields}, ...}}.
-- Invariant: taking over counts as a delivery, except for suspects: they are run alone, one after the other, and are
-- counted when they start (begin.lua), so that what waits beside a message that kills its process is not blamed.
-- What came back to the inbox brings its earlier deaths along: its own entry was delivered once and may look innocent.
-- In a public stream that is not believed: anybody may write there.
-- XAUTOCLAIM walks the pending list by its cursor; XPENDING IDLE would scan all of it in one go.
-- include cut.lua

local source, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local came_back = string.find(source, '}:inbox:', 1, true)

local function count_of(text)  -- as message.py reads it
  return #text < 10 and string.find(text, '^%d+$') and tonumber(text) or 0
end

local function deaths(fields)
  local failures, deliveries = 0, 0
  if not came_back then return 0 end
  for i = #fields - 1, 1, -2 do
    if fields[i] == 'failures' then failures = count_of(fields[i + 1]) end
    if fields[i] == 'deliveries' then deliveries = count_of(fields[i + 1]) end
  end
  return math.max(0, deliveries - failures)
end

local reply = redis.call('XAUTOCLAIM', source, group, consumer, ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'JUSTID')
local ids, taken = reply[2], {}
if #ids > 0 then
  local counts = {}
  local pending = redis.call('XPENDING', source, group, ids[1], ids[#ids], 100000, consumer)
  for i = 1, #pending do counts[pending[i][1]] = pending[i][4] end
  for i = 1, #ids do
    local entry = redis.call('XRANGE', source, ids[i], ids[i])
    local count = counts[ids[i]]
    if entry[1] and count then
      local counted = 0
      if count + deaths(entry[1][2]) < tonumber(ARGV[6]) then
        count, counted = count + 1, 1
        redis.call('XCLAIM', source, group, consumer, 0, ids[i], 'RETRYCOUNT', count, 'JUSTID')
      end
      taken[#taken + 1] = {ids[i], count, counted, cut(entry[1][2], tonumber(ARGV[7]))}
    end
  end
end
return {reply[1], reply[3] or {}, taken}
