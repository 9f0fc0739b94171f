#!lua flags=allow-oom
-- Takes over what a silent consumer held, a page at a time.
-- KEYS  1 source stream; of an ordered group also  2 due  3 waiting  4 turns  5 inbox  6 the ledger
-- ARGV  1 group  2 consumer  3 lease in ms  4 cursor  5 maximum number to look at  6 crashes from which a message is a
--       suspect  7 bytes from which an entry is returned without its data (see cut.lua)  8 the score of what is never due
--       9 maximum number of names and values of an entry  10 maximum bytes of a key
-- Returns {next cursor, ids that vanished while pending, {{entry id, delivery count, 1 if counted, fields}, ...}}.
-- Invariant: taking over counts as a delivery, except for suspects: they are run alone, one after the other, and are
-- counted when they start (count_delivery.lua), so that what waits beside a message that kills its process is not blamed.
-- A message that came back to the inbox brings its earlier crashes along: its own entry was delivered once and may look
-- innocent. In a public stream these fields are ignored: any client may write there.
-- In an ordered group a message has to be the head of its key's queue, as when it is read: one that was read while the
-- group was not ordered, or by hand, is not in a queue yet. What has to wait is not in the answer.
-- XAUTOCLAIM walks the pending list by its cursor; XPENDING IDLE would scan all of it in one go.
-- include redis/append.lua
-- include settling/waiting.lua
-- include redis/ledger.lua
-- include settling/park.lua
-- include settling/ordering.lua
-- include redis/cut.lua

local source, group, consumer = KEYS[1], ARGV[1], ARGV[2]

local order = KEYS[4] and {
  group = group, due = KEYS[2], waiting = KEYS[3], heads = KEYS[4], inbox = KEYS[5], never = ARGV[8],
  strings = tonumber(ARGV[9]), bytes = tonumber(ARGV[10]),
}
local came_back = string.find(source, '}:inbox:', 1, true)

local function count_of(text)  -- as message.py reads it
  return #text < 10 and string.find(text, '^%d+$') and tonumber(text) or 0
end

local function carried(fields)
  local failures, deliveries = 0, 0
  if not came_back then return 0, 0 end
  for i = #fields - 1, 1, -2 do
    if fields[i] == 'failures' then failures = count_of(fields[i + 1]) end
    if fields[i] == 'deliveries' then deliveries = count_of(fields[i + 1]) end
  end
  return deliveries, failures
end

local function may_begin(id, fields, deliveries)
  if not order or #fields > order.strings then return true end
  local could, is_head = pcall(enter_queue, order, source, id, fields, tostring(deliveries))
  return not could or is_head  -- what could not be made to wait is returned, as when it is read
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
      local fields, counted = entry[1][2], 0
      local whole = cut(fields, tonumber(ARGV[7]))
      local deliveries, failures = carried(fields)
      if whole ~= fields or may_begin(ids[i], fields, count + deliveries) then
        if count + math.max(0, deliveries - failures) < tonumber(ARGV[6]) then
          count, counted = count + 1, 1
          redis.call('XCLAIM', source, group, consumer, 0, ids[i], 'RETRYCOUNT', count, 'JUSTID')
        end
        taken[#taken + 1] = {ids[i], count, counted, whole}
      end
    end
  end
end
if order then write_ledger() end
return {reply[1], reply[3] or {}, taken}
